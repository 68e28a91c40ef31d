package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func TestRaftLogSpeaksSlog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	logger := raftLogger(log)
	logger.Named("raft").Warn("heartbeat failed", "peer", raft.ServerID("n2"), "odd")
	logger.Debug("for developers")
	if got := out.String(); !strings.Contains(got, `level=WARN msg="raft: heartbeat failed" peer=n2`) || strings.Contains(got, "developers") {
		t.Errorf("log: %s", got)
	}
	raftLogger(nil).Error("into the void")
}
