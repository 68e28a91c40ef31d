package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

const (
	pieceBytes = 512 << 10
	// sealRounds: the first seal tells what is missing, the second that nothing is.
	sealRounds = 3
	// quiet is how long a custodian may take for the next piece or answer.
	quiet = time.Minute
)

// giveOn has another custodian keep what this node keeps of a store, and takes
// this node out of its custodians.
func (l *Leaver) giveOn(ctx context.Context, kept, own *clusterpb.Store) error {
	st := l.cfg.State()
	of, self := ring.Store(kept.GetNumber()), ring.Store(own.GetNumber())
	var id tsdb.StoreID
	copy(id[:], kept.GetId())
	since, _ := st.Custody(of, self)
	seal := l.cfg.Adopted.Sealed(id)
	whole := seal != nil && seal.Custody == since
	switch {
	case whole && (!kept.GetInBucket() || !l.cfg.BucketIsEnough(st.Member(l.cfg.Node))):
		var parts []part
		for _, t := range seal.Tenants {
			key := tsdb.Key{Tenant: t.Tenant, Incarnation: t.Incarnation}
			parts = append(parts, part{key, l.cfg.Adopted.Blocks(id, key), l.cfg.Adopted.Status(id, key).Gaps})
		}
		if err := l.giveTo(ctx, kept, parts); err != nil {
			return err
		}
	case !whole && st.Holder(of) == nil && len(kept.GetCustodians()) < 2 && !kept.GetInBucket():
		return fmt.Errorf("store %d of %s: its blocks are not whole here, and nobody else keeps them: take it back from a backup, or use --force", kept.GetNumber(), kept.GetNode())
	}
	st = l.cfg.State()
	now := st.Store(of).GetCustodians()
	return propose(ctx, l.cfg.Propose, st, &clusterpb.Command{Change: &clusterpb.Command_SetCustodians{SetCustodians: &clusterpb.SetCustodians{
		Store: kept.GetNumber(), Custodians: without(now, own.GetNumber()), Were: now,
	}}})
}

// giveTo names a custodian, asks what it misses, gives that, and has it seal.
func (l *Leaver) giveTo(ctx context.Context, of *clusterpb.Store, parts []part) error {
	node, since, err := l.custodian(ctx, of.GetNumber(), bytesOf(parts))
	if err != nil {
		return err
	}
	stage := "giving blocks to " + node
	l.say(stage, "store %d, %d blocks", of.GetNumber(), count(parts))
	conn, err := l.cfg.Dial(ctx, node)
	if err != nil {
		return err
	}
	client := peerpb.NewCustodyClient(conn)
	seal := sealOf(of.GetId(), since, parts)
	for range sealRounds {
		asking, end := context.WithTimeout(ctx, quiet)
		answer, err := client.Seal(asking, seal)
		end()
		if err != nil {
			return fmt.Errorf("seal store %d: %w", of.GetNumber(), spoken(err))
		}
		if len(answer.GetMissing()) == 0 {
			return nil
		}
		if err := l.giveMissing(ctx, stage, client, seal, parts, answer.GetMissing()); err != nil {
			return err
		}
	}
	return fmt.Errorf("seal store %d: blocks that were given are missing still", of.GetNumber())
}

// bytesOf is what the parts take on a disk.
func bytesOf(parts []part) (n int64) {
	for _, p := range parts {
		for _, b := range p.blocks {
			files, err := b.Files()
			if err != nil {
				continue // being removed; the giving tells
			}
			for _, f := range files {
				n += f.Size
			}
		}
	}
	return n
}

func sealOf(store []byte, custody uint64, parts []part) *peerpb.SealRequest {
	out := &peerpb.SealRequest{Store: store, Custody: custody}
	for _, p := range parts {
		t := &peerpb.SealedTenant{Tenant: p.key.Tenant, Incarnation: p.key.Incarnation}
		for _, b := range p.blocks {
			t.Blocks = append(t.Blocks, bytes.Clone(b.ULID[:]))
		}
		for _, g := range p.gaps {
			t.Gaps = append(t.Gaps, &peerpb.Interval{MinTime: g.Mint, MaxTime: g.Maxt})
		}
		out.Tenants = append(out.Tenants, t)
	}
	return out
}

func (l *Leaver) giveMissing(ctx context.Context, stage string, c peerpb.CustodyClient, seal *peerpb.SealRequest, parts []part, missing [][]byte) error {
	want := map[ulid.ULID]bool{}
	for _, m := range missing {
		if id, err := blockID(m); err == nil {
			want[id] = true
		}
	}
	given := 0
	for _, p := range parts {
		for _, b := range p.blocks {
			if !want[b.ULID] {
				continue
			}
			given++
			l.say(stage, "block %s of tenant %s, %d of %d", b.ULID, p.key.Tenant, given, len(want))
			if err := giveBlock(ctx, c, seal, p.key, b); err != nil {
				return fmt.Errorf("block %s of tenant %s: %w", b.ULID, p.key.Tenant, spoken(err))
			}
		}
	}
	return nil
}

// giveBlock gives one block: what the custodian has of it already is left out.
func giveBlock(ctx context.Context, c peerpb.CustodyClient, seal *peerpb.SealRequest, key tsdb.Key, b tsdb.Block) error {
	offer := &peerpb.BlockOffer{
		Store: seal.GetStore(), Custody: seal.GetCustody(), Tenant: key.Tenant, Incarnation: key.Incarnation, Block: b.ULID[:],
	}
	files, err := b.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		sum, err := b.Checksum(f)
		if err != nil {
			return err
		}
		offer.Files = append(offer.Files, &peerpb.BlockFile{Path: f.Path, Size: f.Size, Checksum: sum})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(quiet, cancel)
	defer watch.Stop()
	stream, err := c.Hand(ctx)
	if err != nil {
		return err
	}
	s := &giving{stream: stream, heard: func() { watch.Reset(quiet) }}
	if err := stream.Send(&peerpb.HandRequest{Offer: offer}); err != nil {
		return s.why(err)
	}
	first, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case first.GetWhole():
		return nil
	case len(first.GetHave()) != len(files):
		return errors.New("the custodian speaks of other files")
	}
	for i, f := range files {
		if err := s.file(b, i, f, first.GetHave()[i]); err != nil {
			return err
		}
	}
	if err := stream.Send(&peerpb.HandRequest{End: true}); err != nil {
		return s.why(err)
	}
	last, err := stream.Recv()
	if err == nil && !last.GetWhole() {
		err = errors.New("the custodian has not taken it")
	}
	return err
}

// giving is one block on its way.
type giving struct {
	stream peerpb.Custody_HandClient
	heard  func()
}

// file sends one file from an offset on, a piece at a time. A file of no bytes
// is sent as one empty piece: it must be there.
func (g *giving) file(b tsdb.Block, i int, f tsdb.File, from int64) error {
	file, err := os.Open(filepath.Join(b.Dir, filepath.FromSlash(f.Path)))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, pieceBytes)
	for at := from; at < f.Size || f.Size == 0 && at == 0; {
		n, err := io.ReadFull(file, buf[:min(pieceBytes, f.Size-at)])
		if err != nil && f.Size > 0 {
			return err
		}
		piece := &peerpb.BlockPiece{File: uint32(i), Offset: at, Data: buf[:n], Checksum: tsdb.Checksum(buf[:n])}
		if err := g.stream.Send(&peerpb.HandRequest{Piece: piece}); err != nil {
			return g.why(err)
		}
		g.heard()
		if at += int64(n); f.Size == 0 {
			return nil
		}
	}
	return nil
}

// why is the custodian's own word on a stream that it ended.
func (g *giving) why(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, said := g.stream.Recv(); said != nil {
		return said
	}
	return err
}

// spoken takes gRPC's dress off an error.
func spoken(err error) error {
	if s, ok := status.FromError(err); ok && s != nil {
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
	return err
}
