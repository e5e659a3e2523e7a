package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// marketplaceServer answers calls with a marketplace in this process.
type marketplaceServer struct {
	marketpb.UnimplementedMarketplaceServiceServer
	impl shared.Marketplace
}

func (s *marketplaceServer) Info(ctx context.Context, _ *marketpb.InfoRequest) (*marketpb.InfoResponse, error) {
	info, err := s.impl.Info(ctx)
	return toInfo(info), toStatus(err)
}

func (s *marketplaceServer) Search(req *marketpb.SearchRequest, stream grpc.ServerStreamingServer[marketpb.SearchResponse]) error {
	result, err := s.impl.Search(stream.Context(), fromSearch(req))
	if err != nil {
		return toStatus(err)
	}
	if err := stream.Send(&marketpb.SearchResponse{Total: int64(result.Total)}); err != nil {
		return err
	}
	err = pieces(each(result.Packages, toSummary), func(piece []*marketpb.PackageSummary) error {
		return stream.Send(&marketpb.SearchResponse{Packages: piece})
	})
	if err != nil {
		return err
	}
	return stream.Send(&marketpb.SearchResponse{Diagnostics: toDiagnostics(result.Diagnostics)})
}

func (s *marketplaceServer) Describe(ctx context.Context, req *marketpb.DescribeRequest) (*marketpb.DescribeResponse, error) {
	details, err := s.impl.Describe(ctx, fromRef(req.GetRef()))
	return toDetails(details), toStatus(err)
}

func (s *marketplaceServer) Publish(stream grpc.BidiStreamingServer[marketpb.PublishRequest, marketpb.PublishResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return toStatus(shared.NewError(shared.ReasonInvalidArgument, "publish: the call does not begin with a header"))
	}
	req := shared.PublishRequest{RequestID: header.GetRequestId(), DryRun: header.GetDryRun(), Wait: header.GetWait(), Lint: header.GetLint()}
	var sendErr error
	report := func(p shared.Progress) {
		if sendErr == nil {
			sendErr = stream.Send(&marketpb.PublishResponse{Part: &marketpb.PublishResponse_Progress{Progress: toProgress(p)}})
		}
	}
	receipt, err := s.impl.Publish(stream.Context(), req, &chunkReader{stream: stream}, report)
	if err != nil {
		return toStatus(err)
	}
	err = pieces(each(receipt.Files, toFile), func(piece []*marketpb.FileInfo) error {
		return stream.Send(&marketpb.PublishResponse{Part: &marketpb.PublishResponse_Files{Files: &marketpb.FileList{Files: piece}}})
	})
	if err != nil {
		return err
	}
	return stream.Send(&marketpb.PublishResponse{Part: &marketpb.PublishResponse_Receipt{Receipt: toPublishReceipt(receipt)}})
}

// chunkReader gives the chunks of a publish as one stream. It ends with io.EOF
// only when the client says that the tree is complete; a connection that breaks
// is another error.
type chunkReader struct {
	stream grpc.BidiStreamingServer[marketpb.PublishRequest, marketpb.PublishResponse]
	rest   []byte
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		message, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fromStatus(r.stream.Context(), err)
		}
		r.rest = message.GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (s *marketplaceServer) Install(req *marketpb.InstallRequest, stream grpc.ServerStreamingServer[marketpb.InstallResponse]) error {
	var sendErr error
	send := func(resp *marketpb.InstallResponse) {
		if sendErr == nil {
			sendErr = stream.Send(resp)
		}
	}
	receipt, err := s.impl.Install(stream.Context(), fromInstall(req), func(p shared.Progress) {
		send(&marketpb.InstallResponse{Part: &marketpb.InstallResponse_Progress{Progress: toProgress(p)}})
	})
	// What was installed before a failure is told too.
	for _, pkg := range receipt.Packages {
		send(&marketpb.InstallResponse{Part: &marketpb.InstallResponse_Installed{Installed: toInstalled(pkg)}})
	}
	if err != nil {
		return toStatus(err)
	}
	send(&marketpb.InstallResponse{Part: &marketpb.InstallResponse_Receipt{Receipt: &marketpb.InstallReceipt{Diagnostics: toDiagnostics(receipt.Diagnostics)}}})
	return sendErr
}

func (s *marketplaceServer) Verify(req *marketpb.VerifyRequest, stream grpc.ServerStreamingServer[marketpb.VerifyResponse]) error {
	report, err := s.impl.Verify(stream.Context(), shared.VerifyRequest{Root: req.GetRoot(), Packages: each(req.GetPackages(), fromLocked)})
	if err != nil {
		return toStatus(err)
	}
	for _, result := range report.Packages {
		if err := sendVerifyResult(stream, result); err != nil {
			return err
		}
	}
	return stream.Send(&marketpb.VerifyResponse{Part: &marketpb.VerifyResponse_Summary{Summary: &marketpb.VerifySummary{Diagnostics: toDiagnostics(report.Diagnostics)}}})
}

func sendVerifyResult(stream grpc.ServerStreamingServer[marketpb.VerifyResponse], result shared.VerifyResult) error {
	if err := stream.Send(&marketpb.VerifyResponse{Part: &marketpb.VerifyResponse_Result{Result: toVerifyResult(result)}}); err != nil {
		return err
	}
	for _, list := range []struct {
		paths []string
		wrap  func([]string) *marketpb.VerifyPaths
	}{
		{result.Modified, func(p []string) *marketpb.VerifyPaths { return &marketpb.VerifyPaths{Modified: p} }},
		{result.Missing, func(p []string) *marketpb.VerifyPaths { return &marketpb.VerifyPaths{Missing: p} }},
		{result.Extra, func(p []string) *marketpb.VerifyPaths { return &marketpb.VerifyPaths{Extra: p} }},
	} {
		const atOnce = 256 // paths of at most 4 KiB, Linux' limit
		for paths := list.paths; len(paths) > 0; {
			n := min(len(paths), atOnce)
			piece := each(paths[:n], func(p string) string { return clean(p, 4<<10) })
			if err := stream.Send(&marketpb.VerifyResponse{Part: &marketpb.VerifyResponse_Paths{Paths: list.wrap(piece)}}); err != nil {
				return err
			}
			paths = paths[n:]
		}
	}
	return nil
}

func (s *marketplaceServer) Declare(ctx context.Context, req *marketpb.DeclareRequest) (*marketpb.DeclareResponse, error) {
	receipt, err := s.impl.Declare(ctx, fromStatement(req))
	if err != nil {
		return nil, toStatus(err)
	}
	return toDeclareReceipt(receipt), nil
}

func (s *marketplaceServer) Status(ctx context.Context, _ *marketpb.StatusRequest) (*marketpb.StatusResponse, error) {
	st, err := s.impl.Status(ctx)
	return toNodeStatus(st), toStatus(err)
}

func (s *marketplaceServer) Peers(req *marketpb.PeersRequest, stream grpc.ServerStreamingServer[marketpb.PeersResponse]) error {
	list, err := s.impl.Peers(stream.Context(), shared.PeerQuery{ID: req.GetId(), ConnectedOnly: req.GetConnectedOnly(), MinReputation: req.GetMinReputation()})
	if err != nil {
		return toStatus(err)
	}
	if err := stream.Send(&marketpb.PeersResponse{Total: int64(list.Total)}); err != nil {
		return err
	}
	return pieces(each(list.Peers, toPeer), func(piece []*marketpb.Peer) error {
		return stream.Send(&marketpb.PeersResponse{Peers: piece})
	})
}

func (s *marketplaceServer) Bootstrap(ctx context.Context, req *marketpb.BootstrapRequest) (*marketpb.BootstrapResponse, error) {
	outcomes, err := s.impl.Bootstrap(ctx, req.GetAddresses())
	return &marketpb.BootstrapResponse{Outcomes: each(outcomes, toOutcome)}, toStatus(err)
}

func (s *marketplaceServer) Watch(req *marketpb.WatchRequest, stream grpc.ServerStreamingServer[marketpb.WatchResponse]) error {
	query := shared.WatchQuery{Kinds: each(req.GetKinds(), func(k string) shared.EventKind { return shared.EventKind(k) }), Text: req.GetText()}
	return toStatus(s.impl.Watch(stream.Context(), query, func(ev shared.Event) error { return stream.Send(toEvent(ev)) }))
}

// controlServer answers for the process.
type controlServer struct {
	marketpb.UnimplementedControlServiceServer
	control Control
}

func (s *controlServer) Stay(ctx context.Context, _ *marketpb.StayRequest) (*marketpb.StayResponse, error) {
	return &marketpb.StayResponse{}, toStatus(s.control.Stay(ctx))
}

func (s *controlServer) Stop(ctx context.Context, req *marketpb.StopRequest) (*marketpb.StopResponse, error) {
	return &marketpb.StopResponse{}, toStatus(s.control.Stop(ctx, req.GetGrace().AsDuration()))
}

// pieces sends a list in messages of about pieceSize.
func pieces[M proto.Message](list []M, send func([]M) error) error {
	for len(list) > 0 {
		size, n := 0, 0
		for n < len(list) && (n == 0 || size+proto.Size(list[n]) <= pieceSize) {
			size += proto.Size(list[n])
			n++
		}
		if err := send(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}
