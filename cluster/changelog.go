package cluster

import (
	"log/slog"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// logChange logs what was changed and by whom, once in a cluster: on the leader.
// While leadership passes on, a change may be told by two nodes, or by none;
// the events have each one.
func (n *Node) logChange(c Change) {
	e := n.engine.Load()
	if e == nil || e.raft.State() != raft.Leader {
		return
	}
	ev := c.New.Event(c.New.Revision())
	if ev == nil || c.Old.Event(c.New.Revision()) != nil {
		return
	}
	n.log.Info(ev.GetAction(), eventAttrs(ev)...)
}

func eventAttrs(ev *clusterpb.Event) []any {
	attrs := []any{slog.String("actor", ev.GetActor()), slog.String("source", ev.GetSource()), slog.Uint64("revision", ev.GetRevision())}
	if ev.GetObject() != "" {
		attrs = append([]any{slog.String("object", ev.GetObject())}, attrs...)
	}
	if ev.GetDetail() != "" {
		attrs = append(attrs, slog.String("detail", ev.GetDetail()))
	}
	if len(ev.GetChanges()) > 0 {
		lines := make([]string, 0, len(ev.GetChanges()))
		for _, c := range ev.GetChanges() {
			lines = append(lines, ChangeText(c))
		}
		attrs = append(attrs, slog.String("changes", strings.Join(lines, "; ")))
	}
	return attrs
}
