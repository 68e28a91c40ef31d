package ingest

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/storepb"
)

// writeable is thanos.WriteableStore: a Thanos router forwards to this node as if
// it were one of its receivers. Whatever copy of the router's it is, it is written
// to its quorum here; further copies find that it is stored.
type writeable struct {
	ingester *Ingester
	may      func(ctx context.Context, tenant string) error
}

// RegisterWriteable makes what Thanos routers forward arrive here. may says why
// the caller may not write for a tenant.
func (i *Ingester) RegisterWriteable(s grpc.ServiceRegistrar, may func(ctx context.Context, tenant string) error) {
	s.RegisterService(&writeableDesc, &writeable{i, may})
}

// writeableDesc is the generated one, but for the request: that is read by hand.
var writeableDesc = grpc.ServiceDesc{
	ServiceName: storepb.WriteableStore_ServiceDesc.ServiceName,
	HandlerType: (*remoteWriter)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "RemoteWrite", Handler: remoteWrite}},
	Metadata:    storepb.WriteableStore_ServiceDesc.Metadata,
}

type remoteWriter interface {
	RemoteWrite(ctx context.Context, m *thanosMessage) (*storepb.WriteResponse, error)
}

func remoteWrite(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // gRPC's order
	m := &thanosMessage{}
	if err := decode(m); err != nil {
		return nil, err
	}
	defer m.buf.release()
	writer := srv.(remoteWriter)
	if interceptor == nil {
		return writer.RemoteWrite(ctx, m)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: storepb.WriteableStore_RemoteWrite_FullMethodName}
	return interceptor(ctx, m, info, func(ctx context.Context, m any) (any, error) {
		return writer.RemoteWrite(ctx, m.(*thanosMessage))
	})
}

// TapWriteable refuses a router's message before it is read where the memory is used
// up already. It is for grpc.InTapHandle.
func (i *Ingester) TapWriteable(ctx context.Context, info *tap.Info) (context.Context, error) {
	if info.FullMethodName == storepb.WriteableStore_RemoteWrite_FullMethodName {
		if err := i.admission.memory.refusesWrites(); err != nil {
			return ctx, status.Error(codes.Unavailable, err.Error())
		}
	}
	return ctx, nil
}

// thanosMessage is a request as it came.
type thanosMessage struct{ buf *buffer }

// UnmarshalVT keeps the bytes.
func (m *thanosMessage) UnmarshalVT(b []byte) error {
	m.buf = newBuffer(len(b))
	m.buf.b = append(m.buf.b, b...)
	return nil
}

// thanosAtOnce is how many tenants of a message are written at once.
const thanosAtOnce = 8

// RemoteWrite writes what the message has of each tenant, and answers for all of
// them with the code that a router understands.
func (s *writeable) RemoteWrite(ctx context.Context, m *thanosMessage) (*storepb.WriteResponse, error) {
	i := s.ingester
	i.metrics.inflight.Inc()
	defer i.metrics.inflight.Dec()
	parts, replica, err := wire.Thanos(m.buf.b)
	switch {
	case err != nil:
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case replica < 0:
		return nil, status.Errorf(codes.InvalidArgument, "replica %d", replica)
	}
	for _, p := range parts { // before anything is stored
		if p.Tenant == "" {
			return nil, status.Error(codes.InvalidArgument, "series without a tenant")
		}
		if err := s.may(ctx, p.Tenant); err != nil {
			return nil, status.Error(codes.PermissionDenied, err.Error())
		}
	}
	all := &report{}
	var mu sync.Mutex
	var failed []error
	var g errgroup.Group
	g.SetLimit(thanosAtOnce)
	for _, p := range parts {
		g.Go(func() error {
			// A router's other copies bring the same samples: they are repeats.
			rep, err := i.takeForwarded(ctx, p, replica > 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				return nil
			}
			all.add("", rep)
			return nil
		})
	}
	_ = g.Wait()
	if err := all.grpc(failed); err != nil {
		return nil, err
	}
	return &storepb.WriteResponse{}, nil
}

// takeForwarded writes what a message has of one tenant. Its error is about the
// tenant or the message: nothing of it was stored.
func (i *Ingester) takeForwarded(ctx context.Context, p wire.ThanosPart, repeat bool) (*report, error) {
	if v := i.fence.view.Load(); v != nil && v.Admit != nil {
		if err := v.Admit(p.Tenant, p.Tenant); err != nil {
			return nil, err
		}
	}
	v, t, err := i.tenant(ctx, p.Tenant)
	if err != nil {
		return nil, err
	}
	if err := i.admitRate(p.Tenant, t, int64(len(p.Body))); err != nil {
		return nil, err
	}
	b, err := i.layOut(ctx, p, sight{v, t})
	if err != nil {
		return nil, err
	}
	defer b.release()
	i.metrics.remember(p.Tenant)
	i.rates.learn(p.Tenant, t, len(p.Body), b.wire.Samples)
	return i.carryOut(ctx, p.Tenant, sight{v, t}, b, repeat)
}

// layOut lays out what a message has of a tenant, once there is room for it.
func (i *Ingester) layOut(ctx context.Context, p wire.ThanosPart, by sight) (*batch, error) {
	v, t, size := by.view, by.tenant, int64(len(p.Body))
	held := size + remoteWrite1.frames(size)
	leave, err := i.admission.work(ctx, p.Tenant, held)
	if err != nil {
		return nil, err
	}
	turn, err := i.admission.turn(ctx, p.Tenant)
	if err != nil {
		leave()
		return nil, err
	}
	defer turn()
	b := &batch{
		tenant: p.Tenant, wire: batches.Get().(*wire.Batch), frames: newBuffer(int(remoteWrite1.frames(size))),
		leave: []func(){leave}, held: held, recast: v.recasts(t),
	}
	b.wire.Frames = b.frames.b
	b.wire.Reset()
	lim := i.limits(v, t)
	lim.Bytes = int(max(size+size, remoteWrite1.frames(size))) + 1<<20
	if b.recast {
		lim = lim.Loose()
	}
	err = wire.WalkV1(p.Body, lim, b.wire)
	b.frames.b = b.wire.Frames
	if err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// grpc is the answer that a Thanos router understands. AlreadyExists is a conflict
// and InvalidArgument bad input: the router's sender drops the samples. Anything else is
// sent again; at Unavailable the router also leaves this node alone for a moment.
// What the HTTP door answers with 403 (a tenant deleted or suspended) is
// InvalidArgument too: a router turns any other code into a 500, and a sender of
// that tenant would repeat it for ever.
func (r *report) grpc(failed []error) error {
	code, text := http.StatusNoContent, ""
	if r.total+r.deferredExemplars > 0 {
		code, text = r.answer()
	}
	for _, err := range failed {
		if c := statusOf(err); code/100 == 2 || c == http.StatusServiceUnavailable || c == http.StatusTooManyRequests && code != http.StatusServiceUnavailable {
			code, text = c, errors.Join(errors.New(err.Error()), errors.New(text)).Error()
		}
	}
	switch {
	case code/100 == 2:
		return nil
	case code == http.StatusServiceUnavailable:
		return status.Error(codes.Unavailable, text)
	case code == http.StatusTooManyRequests:
		return status.Error(codes.ResourceExhausted, text)
	case len(failed) == 0 && r.conflicting == r.forGood:
		return status.Error(codes.AlreadyExists, text)
	default:
		return status.Error(codes.InvalidArgument, text)
	}
}
