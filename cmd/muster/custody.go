package main

import (
	"context"

	"github.com/oklog/ulid/v2"

	"github.com/muster-metrics/muster/api/custody"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ship"
	"github.com/muster-metrics/muster/tsdb"
)

// newCustody makes what keeps the blocks of nodes that leave, and what empties
// this node when it leaves itself.
func (n *node) newCustody() {
	log := n.log.With("room", "custody")
	n.taker = custody.NewTaker(n.adopted, custody.TakerConfig{
		Store: n.folder.store, State: n.cluster.State, Propose: n.cluster.Propose, Current: n.current.Load, Log: log,
	})
	cfg := custody.LeaverConfig{
		Node: n.cfg.Name, Store: n.folder.store, State: n.cluster.State, Health: n.cluster.Health, Propose: n.cluster.Propose,
		Dial: n.door.Dial, Announced: n.ingest.Announced, Current: n.current.Load, Data: n.tsdb, Adopted: n.adopted,
		BucketIsEnough: func(m *clusterpb.Member) bool { return m.GetDeparture().GetBucketIsEnough() },
		Every:          n.cfg.Timing.Round, Log: log,
	}
	if n.shipper != nil {
		cfg.Bucket = bucketOf{n.shipper, n.ledger}
	}
	n.leaver = custody.NewLeaver(cfg)
}

// bucketOf lets custody ask ship: the two do not know each other.
type bucketOf struct {
	shipper *ship.Shipper
	ledger  *ship.Ledger
}

func (b bucketOf) Ship(ctx context.Context) error {
	_, err := b.shipper.Sync(ctx)
	return err
}

func (b bucketOf) Safe(key tsdb.Key, block ulid.ULID) bool {
	return b.ledger.Safe(key.Tenant, key.Incarnation, block)
}
