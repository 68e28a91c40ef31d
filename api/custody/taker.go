package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// Propose makes a change of the control state; see cluster.Node.Propose.
type Propose func(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error)

// TakerConfig is what a custodian must know. Store, State and Adopted are needed.
type TakerConfig struct {
	// Store is this node's own.
	Store [16]byte
	State func() *cluster.State
	// Propose gives back a custody that is over; nil: it is kept.
	Propose Propose
	// Current says that the state was confirmed since the start: nothing is
	// removed before. Nil: it is.
	Current func() bool
	// Caller names the member that asks. Default: by its certificate.
	Caller func(ctx context.Context) (node string, ok bool)
	// Every is how often it looks for what is over. Default a minute.
	Every time.Duration
	Log   *slog.Logger
}

// Taker keeps the blocks of others: it is the service that takes them, and the
// node's word on whose they are.
type Taker struct {
	peerpb.UnimplementedCustodyServer
	*tsdb.Adopted

	cfg TakerConfig
	log *slog.Logger
}

// NewTaker makes the custodian over what is adopted. A nil logger works.
func NewTaker(adopted *tsdb.Adopted, cfg TakerConfig) *Taker {
	if cfg.Current == nil {
		cfg.Current = func() bool { return true }
	}
	if cfg.Caller == nil {
		cfg.Caller = callerOf
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Taker{Adopted: adopted, cfg: cfg, log: cfg.Log}
}

func callerOf(ctx context.Context) (string, bool) {
	id, ok := door.Peer(ctx)
	return id.Name, ok
}

// Register puts the service on the member door's gRPC server.
func (t *Taker) Register(to grpc.ServiceRegistrar) { peerpb.RegisterCustodyServer(to, t) }

// Answering are the stores that this node answers for besides its own: it is
// their custodian, and has all that they had.
func (t *Taker) Answering() []tsdb.Keeping {
	st := t.cfg.State()
	own := numberOf(st, t.cfg.Store)
	var out []tsdb.Keeping
	for _, id := range t.Stores() {
		since, ok := st.Custody(numberOf(st, id), own)
		if seal := t.Sealed(id); ok && seal != nil && seal.Custody == since {
			out = append(out, tsdb.Keeping{Store: id, Custody: since})
		}
	}
	return out
}

// numberOf is a store's number; 0 where the state does not know it.
func numberOf(st *cluster.State, id [16]byte) ring.Store {
	return ring.Store(st.StoreByID(id[:]).GetNumber())
}

// admit says whether the caller may give blocks of that store: it is the store's
// own node, or another custodian, and this one was named at that revision.
func (t *Taker) admit(ctx context.Context, store []byte, custody uint64) (id tsdb.StoreID, err error) {
	if len(store) != len(id) {
		return id, status.Errorf(codes.InvalidArgument, "a store's id has %d bytes, not %d", len(id), len(store))
	}
	copy(id[:], store)
	st := t.cfg.State()
	if st.Revision() < custody {
		return id, status.Errorf(codes.Unavailable, "this node has seen revision %d, not %d yet", st.Revision(), custody)
	}
	of := numberOf(st, id)
	if since, ok := st.Custody(of, numberOf(st, t.cfg.Store)); !ok || since != custody {
		return id, status.Errorf(codes.FailedPrecondition, "this node is not the custodian of store %d since revision %d", of, custody)
	}
	name, ok := t.cfg.Caller(ctx)
	m := st.Member(name)
	if !ok || m == nil {
		return id, status.Error(codes.PermissionDenied, "the caller is no member")
	}
	if _, keeps := st.Custody(of, ring.Store(m.GetStore())); m.GetStore() != uint32(of) && !keeps {
		return id, status.Errorf(codes.PermissionDenied, "%s has not store %d", name, of)
	}
	return id, nil
}

// Hand takes one block.
func (t *Taker) Hand(stream grpc.BidiStreamingServer[peerpb.HandRequest, peerpb.HandResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	offer := first.GetOffer()
	store, err := t.admit(stream.Context(), offer.GetStore(), offer.GetCustody())
	if err != nil {
		return err
	}
	id, err := blockID(offer.GetBlock())
	if err != nil {
		return err
	}
	files := make([]tsdb.File, 0, len(offer.GetFiles()))
	for _, f := range offer.GetFiles() {
		files = append(files, tsdb.File{Path: f.GetPath(), Size: f.GetSize(), Checksum: f.GetChecksum()})
	}
	key := tsdb.Key{Tenant: offer.GetTenant(), Incarnation: offer.GetIncarnation()}
	taking, have, whole, err := t.Take(store, key, id, files)
	if err != nil {
		return statusOf(err)
	}
	if whole {
		return stream.Send(&peerpb.HandResponse{Whole: true})
	}
	defer func() {
		if err := taking.Close(); err != nil {
			t.log.Warn("end of taking a block", "block", id.String(), "err", err)
		}
	}()
	if err := stream.Send(&peerpb.HandResponse{Have: have}); err != nil {
		return err
	}
	if err := t.pieces(stream, taking); err != nil {
		return statusOf(err)
	}
	t.log.Info("block adopted", "store", store.String(), "tenant", key.Tenant, "block", id.String())
	return stream.Send(&peerpb.HandResponse{Whole: true})
}

// pieces takes what comes until the giver says that this was all.
func (t *Taker) pieces(stream grpc.BidiStreamingServer[peerpb.HandRequest, peerpb.HandResponse], taking *tsdb.Taking) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the giver ended before the block did", tsdb.ErrOffer)
		}
		if err != nil {
			return err
		}
		if p := req.GetPiece(); p != nil {
			if tsdb.Checksum(p.GetData()) != p.GetChecksum() {
				return fmt.Errorf("%w: a piece of file %d at %d", tsdb.ErrSpoiled, p.GetFile(), p.GetOffset())
			}
			if err := taking.Write(int(p.GetFile()), p.GetOffset(), p.GetData()); err != nil {
				return err
			}
		}
		if req.GetEnd() {
			return taking.Finish()
		}
	}
}

// Seal notes what there is of a store, and answers for it from then on.
func (t *Taker) Seal(ctx context.Context, req *peerpb.SealRequest) (*peerpb.SealResponse, error) {
	store, err := t.admit(ctx, req.GetStore(), req.GetCustody())
	if err != nil {
		return nil, err
	}
	seal := tsdb.Seal{Custody: req.GetCustody()}
	for _, of := range req.GetTenants() {
		one := tsdb.SealedTenant{Tenant: of.GetTenant(), Incarnation: of.GetIncarnation()}
		for _, b := range of.GetBlocks() {
			id, err := blockID(b)
			if err != nil {
				return nil, err
			}
			one.Blocks = append(one.Blocks, tsdb.SealedBlock{ULID: id})
		}
		for _, g := range of.GetGaps() {
			one.Gaps = append(one.Gaps, tsdb.Interval{Mint: g.GetMinTime(), Maxt: g.GetMaxTime()})
		}
		seal.Tenants = append(seal.Tenants, one)
	}
	missing, err := t.Adopted.Seal(store, seal)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &peerpb.SealResponse{}
	for _, id := range missing {
		out.Missing = append(out.Missing, bytes.Clone(id[:]))
	}
	if len(missing) == 0 {
		t.log.Info("custodian of a store", "store", store.String(), "tenants", len(seal.Tenants))
	}
	return out, nil
}

func blockID(b []byte) (id ulid.ULID, err error) {
	if len(b) != len(id) {
		return id, status.Errorf(codes.InvalidArgument, "a block's id has %d bytes, not %d", len(id), len(b))
	}
	copy(id[:], b)
	return id, nil
}

// statusOf is the gRPC error of a block that was not taken.
func statusOf(err error) error {
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	switch {
	case errors.Is(err, tsdb.ErrOffer):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, tsdb.ErrSpoiled):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, tsdb.ErrTaking), errors.Is(err, tsdb.ErrNotReady):
		return status.Error(codes.Unavailable, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}
