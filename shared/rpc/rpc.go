// Package rpc carries the contract of package shared over gRPC: a [Client] is a
// shared.Marketplace whose calls run in an engine's process, [Register] serves one
// there. It is the only place that knows protocol buffers, gRPC status codes and
// go-plugin's handshake; nothing outside of it ever sees one.
//
// Values and errors arrive as they were sent. No message is larger than
// [MaxMessage]: package files travel in chunks, lists that can grow in pieces.
//
// It does not find or start engines (package host/engine does).
package rpc

import (
	"context"
	"io"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
	"ggen.dev/marketplace/shared/telemetry"
)

// Protocols are the versions of the contract that this build speaks, ascending.
// The newest one that both sides speak is used.
func Protocols() []int {
	versions := make([]int, 0, Newest-Oldest+1)
	for v := Oldest; v <= Newest; v++ {
		versions = append(versions, v)
	}
	return versions
}

// Oldest is the first version of the contract that this build still speaks.
const Oldest = 1

// Negotiate chooses the version that is spoken with an engine that speaks theirs.
// ok is false when there is none.
func Negotiate(theirs []int) (version int, ok bool) {
	for _, v := range theirs {
		if v >= Oldest && v <= Newest && v > version {
			version, ok = v, true
		}
	}
	return version, ok
}

// Limits on messages, in bytes.
const (
	// MaxMessage bounds a message in both directions.
	MaxMessage = 1 << 20
	// chunkSize is how much of a package's tar stream goes into one message:
	// larger ones gain nothing (432 MiB/s at 1 MiB against 400 here).
	chunkSize = 256 << 10
	// pieceSize is how much of a list goes into one message. With one element of
	// any allowed size on top it stays below MaxMessage.
	pieceSize = 256 << 10
)

// PluginName is the name under which go-plugin dispenses the marketplace.
const PluginName = "marketplace"

// Handshake keeps an engine from being run by mistake, and a program that is no
// engine from being taken for one. It is no security.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  Oldest,
		MagicCookieKey:   "GGEN_ENGINE_COOKIE",
		MagicCookieValue: "4d9c0f7a63e14b0f9b0e2c58f1a7d6f3",
	}
}

// Control is the life of an engine's process.
type Control interface {
	// Stay makes the engine run until it is stopped, instead of until it is idle.
	Stay(ctx context.Context) error
	// Stop lets running calls finish, for at most grace, and ends the process. It
	// returns when the engine has begun to stop.
	Stop(ctx context.Context, grace time.Duration) error
}

// Plugins are the plugin sets by protocol version, for go-plugin's client (where
// both arguments are nil) and server.
func Plugins(impl shared.Marketplace, control Control) map[int]plugin.PluginSet {
	sets := map[int]plugin.PluginSet{}
	for _, v := range Protocols() {
		sets[v] = plugin.PluginSet{PluginName: &grpcPlugin{impl: impl, control: control}}
	}
	return sets
}

// grpcPlugin is the go-plugin glue.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl    shared.Marketplace
	control Control
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer implements plugin.GRPCPlugin.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	Register(s, p.impl, p.control)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; what it dispenses is a [*Client].
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// Register serves impl and control on s, which must have [ServerOptions].
func Register(s grpc.ServiceRegistrar, impl shared.Marketplace, control Control) {
	marketpb.RegisterMarketplaceServiceServer(s, &marketplaceServer{impl: extend(s, impl)})
	marketpb.RegisterControlServiceServer(s, &controlServer{control: control})
}

// ServerOptions bound messages and turn a panic in a handler into an INTERNAL
// error of that call, which panicked is told of.
func ServerOptions(panicked func(method string, value any, stack []byte)) []grpc.ServerOption {
	r := recoverer{panicked}
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(r.unary),
		grpc.ChainStreamInterceptor(r.stream),
	}
}

// Failures tells of every call that ends with an error, in the call's context: whoever logs
// with that says in which trace it happened.
func Failures(failed func(ctx context.Context, method string, err error)) []grpc.ServerOption {
	tell := func(ctx context.Context, method string, err error) error {
		if err != nil {
			failed(ctx, method, fromStatus(context.WithoutCancel(ctx), err))
		}
		return err
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			return resp, tell(ctx, info.FullMethod, err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return tell(stream.Context(), info.FullMethod, handler(srv, stream))
		}),
	}
}

// Dial prepares a client of an engine that listens on a Unix socket; the
// connection is made by the first call. Who may connect is decided by the
// permissions of the socket's folder and by the engine, which asks the kernel who
// is calling: nothing is encrypted on the way.
//
// An engine that stops answering at all (its process is stopped, the machine
// thrashes) breaks the connection after 15 s, and with it the calls that run.
func Dial(network, address string) (*Client, io.Closer, error) {
	return dial(network, address, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}))
}

// DialPatiently is [Dial] for an engine that may pause for as long as it likes,
// because it runs under a debugger.
func DialPatiently(network, address string) (*Client, io.Closer, error) {
	return dial(network, address)
}

const (
	keepaliveTime    = 10 * time.Second // gRPC allows no less
	keepaliveTimeout = 5 * time.Second
)

func dial(network, address string, more ...grpc.DialOption) (*Client, io.Closer, error) {
	if network != "unix" {
		return nil, nil, shared.NewError(shared.ReasonEngineFailed, "the engine listens on %s, which is no Unix socket", network)
	}
	options := append(append(DialOptions(), more...), grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix:"+address, options...)
	if err != nil {
		return nil, nil, shared.NewError(shared.ReasonEngineFailed, "the engine's socket %s: %w", address, err)
	}
	return NewClient(conn), conn, nil
}

// DialOptions bound messages, and carry the trace of a call if the process exports one.
func DialOptions() []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage))}
	if telemetry.Tracing() {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithMeterProvider(noop.NewMeterProvider()))))
	}
	return options
}

// Observe traces and measures what a server answers; nil: it is not measured. It is one of a
// server's options beside [ServerOptions].
func Observe(meters metric.MeterProvider) grpc.ServerOption {
	if meters == nil {
		meters = noop.NewMeterProvider()
	}
	return grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithMeterProvider(meters)))
}
