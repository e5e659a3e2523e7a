package main

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// sink is a marketplace that knows who it is and takes what it is sent.
type sink struct{ shared.Marketplace }

// Info implements shared.Marketplace.
func (sink) Info(context.Context) (shared.EngineInfo, error) {
	return shared.EngineInfo{Name: "marketplace", Version: "0.1.0", Protocols: []int{1}, InstanceID: "i", PID: 1}, nil
}

// Publish implements shared.Marketplace.
func (sink) Publish(_ context.Context, _ shared.PublishRequest, tree io.Reader, _ shared.ProgressFunc) (shared.PublishReceipt, error) {
	n, err := io.Copy(io.Discard, tree)
	return shared.PublishReceipt{Size: n}, err
}

// plainSink is the same as generated code has it.
type plainSink struct {
	marketpb.UnimplementedMarketplaceServiceServer
}

func (plainSink) Info(context.Context, *marketpb.InfoRequest) (*marketpb.InfoResponse, error) {
	return &marketpb.InfoResponse{Name: "marketplace", Version: "0.1.0", Protocols: []int32{1}, InstanceId: "i", Pid: 1}, nil
}

func (plainSink) Publish(stream grpc.BidiStreamingServer[marketpb.PublishRequest, marketpb.PublishResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return nil //nolint:nilerr // io.EOF
		}
	}
}

// serve gives the socket of a server that ends with the benchmark.
func serve(b *testing.B, server *grpc.Server) string {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "s")
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	b.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	return socket
}

// ours is a client and server as the product has them; with tells which
// credentials.
func ours(b *testing.B, credentials []grpc.ServerOption) *rpc.Client {
	b.Helper()
	life := newLife(0, true, func(bool) error { return nil })
	options := append(rpc.ServerOptions(func(string, any, []byte) {}), life.serverOptions()...)
	server := grpc.NewServer(append(options, credentials...)...)
	rpc.Register(server, sink{}, life)
	client, conn, err := rpc.Dial("unix", serve(b, server))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return client
}

func plain(b *testing.B) marketpb.MarketplaceServiceClient {
	b.Helper()
	server := grpc.NewServer()
	marketpb.RegisterMarketplaceServiceServer(server, plainSink{})
	conn, err := grpc.NewClient("unix:"+serve(b, server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return marketpb.NewMarketplaceServiceClient(conn)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkUnaryCall compares a call that passed the check of who calls, and all
// our interceptors, with one of plain gRPC, in turns.
func BenchmarkUnaryCall(b *testing.B) {
	checked, unchecked, generated := ours(b, peerCredentials()), ours(b, nil), plain(b)
	var with, without, bare []time.Duration
	timed := func(to *[]time.Duration, call func() error) {
		begun := time.Now()
		if err := call(); err != nil {
			b.Fatal(err)
		}
		*to = append(*to, time.Since(begun))
	}
	for b.Loop() {
		timed(&with, func() error { _, err := checked.Info(b.Context()); return err })
		timed(&without, func() error { _, err := unchecked.Info(b.Context()); return err })
		timed(&bare, func() error { _, err := generated.Info(b.Context(), &marketpb.InfoRequest{}); return err })
	}
	b.ReportMetric(float64(median(with).Microseconds()), "µs/checked")
	b.ReportMetric(float64(median(bare).Microseconds()), "µs/plain")
	b.ReportMetric(float64(median(with))/float64(median(without)), "checked/unchecked")
	b.ReportMetric(float64(median(with))/float64(median(bare)), "checked/plain")
}

// BenchmarkStream sends 64 MiB as a publish does, and as plain gRPC does with
// messages of the same size, in turns.
func BenchmarkStream(b *testing.B) {
	const size, chunk = 64 << 20, 256 << 10
	client, generated := ours(b, peerCredentials()), plain(b)
	var through, bare []time.Duration
	for b.Loop() {
		begun := time.Now()
		receipt, err := client.Publish(b.Context(), shared.PublishRequest{}, io.LimitReader(zeros{}, size), nil)
		if err != nil || receipt.Size != size {
			b.Fatal(receipt.Size, err)
		}
		through = append(through, time.Since(begun))

		begun = time.Now()
		stream, err := generated.Publish(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		tree := io.LimitReader(zeros{}, size)
		for {
			piece := make([]byte, chunk)
			n, err := io.ReadFull(tree, piece)
			if n == 0 || err != nil {
				break
			}
			if err := stream.Send(&marketpb.PublishRequest{Part: &marketpb.PublishRequest_Chunk{Chunk: piece[:n]}}); err != nil {
				b.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			b.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			b.Fatal("an answer")
		}
		bare = append(bare, time.Since(begun))
	}
	rate := func(d []time.Duration) float64 { return float64(size>>20) / median(d).Seconds() }
	b.ReportMetric(rate(through), "MiB/s")
	b.ReportMetric(rate(bare), "MiB/s-plain")
	b.ReportMetric(rate(through)/rate(bare), "stream/plain")
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
