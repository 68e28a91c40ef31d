package cluster

import (
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxCommand bounds an encoded command in bytes. The largest that are sent are
// steps for all 65,536 slots of a ring, at 40 bytes each, and the restoring of
// 100,000 tenants with a token and a few limits each, at 200 bytes each.
const maxCommand = 32 << 20

// ErrCommandTooLarge means that a command is beyond what the log takes.
var ErrCommandTooLarge = errors.New("command too large")

// EncodeCommand is the command as it stands in the log.
func EncodeCommand(cmd *clusterpb.Command) ([]byte, error) {
	if n := cmd.SizeVT(); n > maxCommand {
		return nil, fmt.Errorf("encode command of %d bytes: %w", n, ErrCommandTooLarge)
	}
	b, err := cmd.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return b, nil
}

// ParseCommand reads what EncodeCommand wrote. It keeps nothing of b.
func ParseCommand(b []byte) (*clusterpb.Command, error) {
	if len(b) > maxCommand {
		return nil, fmt.Errorf("parse command of %d bytes: %w", len(b), ErrCommandTooLarge)
	}
	cmd := &clusterpb.Command{}
	if err := cmd.UnmarshalVT(b); err != nil {
		return nil, fmt.Errorf("parse command: %w", err)
	}
	return cmd, nil
}
