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
	out.Reset()
	logger.Error("failed to decode incoming command", "error", "connection reset")
	logger.Error("failed to send snapshot to", "peer", "n2")
	logger.Error("failed to commit logs", "error", "no space")
	if got := out.String(); strings.Contains(got, "decode") || !strings.Contains(got, "level=WARN msg=\"raft: failed to send snapshot to") ||
		!strings.Contains(got, "level=ERROR msg=\"raft: failed to commit logs") {
		t.Errorf("log: %s", got)
	}
	raftLogger(nil).Error("into the void")
}
