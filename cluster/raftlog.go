package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger lets the Raft library, which speaks hclog, write to log. nil is
// silence.
func raftLogger(log *slog.Logger) hclog.Logger {
	if log == nil {
		return hclog.NewNullLogger()
	}
	// The logger itself writes nowhere; everything goes to the sink.
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	logger.RegisterSink(slogSink{log})
	return logger
}

type slogSink struct{ log *slog.Logger }

// everyday are lines that the library calls errors and that are none: what
// happens when a connection ends or a node is away. Who is away is told in other
// places, once; that it was tried again in vain is for developers.
var everyday = map[string]slog.Level{
	"failed to decode incoming command":         slog.LevelDebug, // the other side hung up
	"failed to flush response":                  slog.LevelDebug,
	"failed to heartbeat to":                    slog.LevelDebug,
	"failed to appendEntries to":                slog.LevelDebug,
	"failed to pipeline appendEntries":          slog.LevelDebug,
	"failed to start pipeline replication to":   slog.LevelDebug,
	"failed to make requestVote RPC":            slog.LevelDebug,
	"failed to contact":                         slog.LevelInfo,
	"peer has newer term, stopping replication": slog.LevelInfo, // another leads
	"failed to send snapshot to":                slog.LevelWarn, // it is tried again
	"failed to take snapshot":                   slog.LevelWarn, // the same
}

// Accept is called for each line, of whatever level.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	ctx, to := context.Background(), slogLevel(level)
	if known, ok := everyday[msg]; ok {
		to = min(to, known)
	}
	if level == hclog.Off || !s.log.Enabled(ctx, to) {
		return
	}
	attrs := make([]slog.Attr, 0, len(args)/2+1)
	for ; len(args) >= 2; args = args[2:] {
		attrs = append(attrs, slog.Any(fmt.Sprint(args[0]), plain(args[1])))
	}
	if len(args) == 1 {
		attrs = append(attrs, slog.Any("extra", plain(args[0])))
	}
	s.log.LogAttrs(ctx, to, "raft: "+msg, attrs...)
}

// plain spells out what only hclog knows how to print.
func plain(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) == 0 {
			return ""
		}
		return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
	case hclog.CapturedStacktrace:
		return string(v)
	case hclog.Hex:
		return fmt.Sprintf("0x%x", int(v))
	case hclog.Octal:
		return fmt.Sprintf("0%o", int(v))
	case hclog.Binary:
		return fmt.Sprintf("0b%b", int(v))
	case fmt.Stringer:
		return fmt.Sprint(v) // forgives a nil pointer
	default:
		return v
	}
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info, hclog.NoLevel:
		return slog.LevelInfo
	default: // Raft's trace and debug are both for developers
		return slog.LevelDebug
	}
}
