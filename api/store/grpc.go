package store

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// keepaliveMinTime is below the 10 s at which a Querier pings: a server that
// wants rarer pings would cut its connections.
const keepaliveMinTime = 5 * time.Second

// NewServer makes a gRPC server as Thanos' clients expect one: messages of any
// size, frequent keepalives, the framed snappy compressor, health, reflection.
// opts are the caller's own, credentials for example; interceptors among them
// see a panic of the service as an error.
func NewServer(opts ...grpc.ServerOption) *grpc.Server {
	all := slices.Concat([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.ForceServerCodecV2(newCodec()),
	}, opts, []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(recoverUnary),
		grpc.ChainStreamInterceptor(recoverStream),
	})
	srv := grpc.NewServer(all...)
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	reflection.Register(srv)
	return srv
}

// recoverUnary turns a panic into an answer: one bad request must not end the
// node that holds everybody's samples.
func recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(info.FullMethod, p)
		}
	}()
	return h(ctx, req)
}

func recoverStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(info.FullMethod, p)
		}
	}()
	return h(srv, ss)
}

func panicked(method string, p any) error {
	slog.Error("panic in a gRPC call", "method", method, "panic", p, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s: panic: %v", method, p)
}
