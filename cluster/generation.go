package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// generation is the Member.server of the control state in raft/, kept in
// raft/server since Raft has to know its own name before it has a state. No file:
// 0, control state that was never given up.
func (n *Node) generation() (uint64, error) {
	text, err := os.ReadFile(n.raftPath("server"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read which server this is to raft: %w", err)
	}
	g, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read which server this is to raft: %s: %w", n.raftPath("server"), err)
	}
	return g, nil
}

func (n *Node) keepGeneration(g uint64) error {
	if g == 0 {
		return nil
	}
	if err := replaceFile(n.raftPath("server"), fmt.Appendf(nil, "%d\n", g)); err != nil {
		return fmt.Errorf("keep which server this is to raft: %w", err)
	}
	return nil
}
