//go:build ggen_next_protocol

package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"ggen.dev/marketplace/shared"
)

// Newest is one version further than the released one. This file is a rehearsal:
// tests build host and engine with it, beside those without it, to see that both
// get along both ways. It adds a call and a reason that version 1 does not know.
const Newest = 2

// ReasonNext is an error that no host of version 1 has heard of.
const ReasonNext shared.Reason = "NEXT_REASON"

const greetMethod = "/ggen.marketplace.v2.GreetService/Greet"

// nextMarketplace fails in a new way in an old call.
type nextMarketplace struct{ shared.Marketplace }

// Describe implements shared.Marketplace.
func (n nextMarketplace) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	if ref.Name == "next-reason" {
		return shared.PackageDetails{}, shared.NewError(ReasonNext, "something that version 1 had no word for").WithHint("a hint from the future").With("key", "value")
	}
	return n.Marketplace.Describe(ctx, ref)
}

// greeter is what version 2 adds.
type greeter interface{ greet(name string) string }

type greetServer struct{}

func (greetServer) greet(name string) string { return "hello " + name }

// Greet is the call that version 2 adds. With an engine of version 1 it is
// UNIMPLEMENTED.
func (c *Client) Greet(ctx context.Context, name string) (string, error) {
	reply := new(wrapperspb.StringValue)
	err := c.conn.Invoke(ctx, greetMethod, wrapperspb.String(name), reply)
	return reply.GetValue(), fromStatus(ctx, err)
}

func extend(s grpc.ServiceRegistrar, impl shared.Marketplace) shared.Marketplace {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "ggen.marketplace.v2.GreetService", HandlerType: (*greeter)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: greetHandler}},
	}, greetServer{})
	return nextMarketplace{impl}
}

//nolint:revive // gRPC wants this order
func greetHandler(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	handle := func(_ context.Context, req any) (any, error) {
		return wrapperspb.String(srv.(greeter).greet(req.(*wrapperspb.StringValue).GetValue())), nil
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: greetMethod}, handle)
}
