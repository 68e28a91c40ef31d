package fencing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/proto/storepb"
)

// heldBy are the samples of the metric that a node's own store has: Unix
// milliseconds by series.
func heldBy(ctx context.Context, n *fleet.Node, metric string) (map[string]map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	conn, err := grpc.NewClient(n.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("ask the store of %s: %w", n.Name, err)
	}
	defer conn.Close()
	now := time.Now().UnixMilli()
	stream, err := storepb.NewStoreClient(conn).Series(ctx, &storepb.SeriesRequest{
		MinTime: now - time.Hour.Milliseconds(), MaxTime: now + time.Hour.Milliseconds(), Matchers: []*storepb.LabelMatcher{
			{Type: storepb.LabelMatcher_EQ, Name: "__name__", Value: metric},
			{Type: storepb.LabelMatcher_EQ, Name: "tenant_id", Value: tenantID},
		},
	}, grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return nil, fmt.Errorf("ask the store of %s: %w", n.Name, err)
	}
	out := map[string]map[int64]bool{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ask the store of %s: %w", n.Name, err)
		}
		for _, s := range append(resp.GetBatch().GetSeries(), resp.GetSeries()) {
			if err := collect(out, s); err != nil {
				return nil, fmt.Errorf("read the store of %s: %w", n.Name, err)
			}
		}
	}
}

func collect(out map[string]map[int64]bool, s *storepb.Series) error {
	label := ""
	for _, l := range s.GetLabels() {
		if l.GetName() == "series" {
			label = l.GetValue()
		}
	}
	if out[label] == nil {
		out[label] = map[int64]bool{}
	}
	for _, c := range s.GetChunks() {
		chunk, err := chunkenc.FromData(chunkenc.EncXOR, c.GetRaw().GetData())
		if err != nil {
			return err
		}
		it := chunk.Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			at, _ := it.At()
			out[label][at] = true
		}
		if it.Err() != nil {
			return it.Err()
		}
	}
	return nil
}

// judgeStores looks at the stores of nodes to which nothing happened: none has a
// sample of a slot that was written when the slot was another's and its former
// epoch was closed. It says how many samples it was asked about, and how many of
// these came from a node that had not heard of the change when they were sent.
func judgeStores(ctx context.Context, l *load, c chronicle, nodes []*fleet.Node) (judged, late int, findings []string, err error) {
	posts := l.ledger.all()
	for _, n := range nodes {
		if !l.ledger.spared(n.Name) {
			continue
		}
		held, err := heldBy(ctx, n, l.metric)
		if err != nil {
			return judged, late, findings, err
		}
		for i := range posts {
			p := &posts[i]
			begin := p.began
			thaw := l.ledger.thawed(p.node, p.began)
			if thaw.After(begin) {
				begin = thaw // it was frozen: whatever it did with the request, it did then
			}
			for k, s := range l.series {
				if p.which >= 0 && p.which != k {
					continue
				}
				t := c.during(s.slot, begin, p.ended)
				if t == nil || slices.Contains(t.replicas, n.Name) {
					continue
				}
				judged++
				if thaw.After(p.began) || !l.ledger.unawareUntil(p.node, p.began).IsZero() {
					late++
				}
				if held[s.label][p.at] && len(findings) < maxFindings {
					findings = append(findings, fmt.Sprintf("%s has a sample of slot %d that %s sent out at %s or later, when the slot was of %v alone since %s",
						n.Name, s.slot, p.node, begin.Format("15:04:05.000"), t.replicas, t.settled.Format("15:04:05.000")))
				}
			}
		}
	}
	return judged, late, findings, nil
}
