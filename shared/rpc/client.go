package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// Client is a marketplace in another process. Its methods may be called
// concurrently; closing the connection is up to whoever made it.
type Client struct {
	conn        grpc.ClientConnInterface
	marketplace marketpb.MarketplaceServiceClient
	control     marketpb.ControlServiceClient
}

var (
	_ shared.Marketplace = (*Client)(nil)
	_ Control            = (*Client)(nil)
)

// NewClient calls over conn, which must have been made with [DialOptions].
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{conn: conn, marketplace: marketpb.NewMarketplaceServiceClient(conn), control: marketpb.NewControlServiceClient(conn)}
}

// Info implements shared.Marketplace.
func (c *Client) Info(ctx context.Context) (shared.EngineInfo, error) {
	resp, err := c.marketplace.Info(ctx, &marketpb.InfoRequest{})
	return fromInfo(resp), fromStatus(ctx, err)
}

// Search implements shared.Marketplace.
func (c *Client) Search(ctx context.Context, query shared.SearchQuery) (result shared.SearchResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Search(ctx, toSearch(query))
	if err != nil {
		return result, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(piece *marketpb.SearchResponse) {
		result.Packages = append(result.Packages, each(piece.GetPackages(), fromSummary)...)
		result.Total += int(piece.GetTotal())
		result.Diagnostics = append(result.Diagnostics, fromDiagnostics(piece.GetDiagnostics())...)
	})
	return result, err
}

// Describe implements shared.Marketplace.
func (c *Client) Describe(ctx context.Context, ref shared.Ref) (shared.PackageDetails, error) {
	resp, err := c.marketplace.Describe(ctx, &marketpb.DescribeRequest{Ref: toRef(ref)})
	if err != nil {
		return shared.PackageDetails{}, fromStatus(ctx, err)
	}
	return fromDetails(resp), nil
}

// Publish implements shared.Marketplace. The tree is sent from a goroutine of its
// own that has ended when Publish returns; report is called from the caller's.
func (c *Client) Publish(ctx context.Context, req shared.PublishRequest, tree io.Reader, report shared.ProgressFunc) (receipt shared.PublishReceipt, err error) {
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.marketplace.Publish(sending)
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	uploaded := make(chan error, 1)
	go func() {
		err := upload(stream, req, tree)
		if err != nil && !errors.Is(err, io.EOF) {
			// The engine must not take the part for the whole. With io.EOF the call has
			// ended, and a cancellation would only hide why from whoever receives.
			cancel()
		}
		uploaded <- err
	}()
	var files []shared.FileInfo
	var last *marketpb.PublishReceipt
	err = receive(ctx, stream, func(resp *marketpb.PublishResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.PublishResponse_Progress:
			report.Report(fromProgress(part.Progress))
		case *marketpb.PublishResponse_Files:
			files = append(files, each(part.Files.GetFiles(), fromFile)...)
		case *marketpb.PublishResponse_Receipt:
			last = part.Receipt
		}
	})
	cancel()
	// The engine's own error explains more than that the upload broke; but when
	// the tree could not be read, that is what went wrong.
	if uploadErr := <-uploaded; uploadErr != nil && !errors.Is(uploadErr, io.EOF) && (err == nil || errors.Is(err, context.Canceled)) && ctx.Err() == nil {
		return receipt, shared.AsError(uploadErr)
	}
	if err != nil {
		return receipt, err
	}
	if last == nil {
		return receipt, incomplete("publish")
	}
	return fromPublishReceipt(last, files), nil
}

// upload sends the header and the tree. io.EOF means that the engine has ended
// the call, and its answer says why.
func upload(stream grpc.BidiStreamingClient[marketpb.PublishRequest, marketpb.PublishResponse], req shared.PublishRequest, tree io.Reader) error {
	header := &marketpb.PublishHeader{RequestId: req.RequestID, DryRun: req.DryRun, Wait: req.Wait, Lint: req.Lint}
	if err := stream.Send(&marketpb.PublishRequest{Part: &marketpb.PublishRequest_Header{Header: header}}); err != nil {
		return err
	}
	for {
		chunk := make([]byte, chunkSize) // gRPC may still hold the last one
		n, err := io.ReadFull(tree, chunk)
		if n > 0 {
			if err := stream.Send(&marketpb.PublishRequest{Part: &marketpb.PublishRequest_Chunk{Chunk: chunk[:n]}}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return stream.CloseSend()
		case err != nil:
			return shared.AsError(err)
		}
	}
}

// Declare implements shared.Marketplace.
func (c *Client) Declare(ctx context.Context, statement shared.Statement) (shared.DeclareReceipt, error) {
	resp, err := c.marketplace.Declare(ctx, toStatement(statement))
	if err != nil {
		return shared.DeclareReceipt{}, fromStatus(ctx, err)
	}
	return fromDeclareReceipt(resp), nil
}

// Install implements shared.Marketplace.
func (c *Client) Install(ctx context.Context, req shared.InstallRequest, report shared.ProgressFunc) (receipt shared.InstallReceipt, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Install(ctx, toInstall(req))
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(resp *marketpb.InstallResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.InstallResponse_Progress:
			report.Report(fromProgress(part.Progress))
		case *marketpb.InstallResponse_Installed:
			receipt.Packages = append(receipt.Packages, fromInstalled(part.Installed))
		case *marketpb.InstallResponse_Receipt:
			receipt.Diagnostics, whole = fromDiagnostics(part.Receipt.GetDiagnostics()), true
		}
	})
	if err == nil && !whole {
		err = incomplete("install")
	}
	return receipt, err
}

// Verify implements shared.Marketplace.
func (c *Client) Verify(ctx context.Context, req shared.VerifyRequest) (report shared.VerifyReport, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Verify(ctx, &marketpb.VerifyRequest{Root: req.Root, Packages: each(req.Packages, toLocked)})
	if err != nil {
		return report, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(resp *marketpb.VerifyResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.VerifyResponse_Result:
			report.Packages = append(report.Packages, fromVerifyResult(part.Result))
		case *marketpb.VerifyResponse_Paths:
			if len(report.Packages) == 0 {
				return
			}
			last := &report.Packages[len(report.Packages)-1]
			last.Modified = append(last.Modified, part.Paths.GetModified()...)
			last.Missing = append(last.Missing, part.Paths.GetMissing()...)
			last.Extra = append(last.Extra, part.Paths.GetExtra()...)
		case *marketpb.VerifyResponse_Summary:
			report.Diagnostics, whole = fromDiagnostics(part.Summary.GetDiagnostics()), true
		}
	})
	if err == nil && !whole {
		err = incomplete("verify")
	}
	return report, err
}

// Status implements shared.Marketplace.
func (c *Client) Status(ctx context.Context) (shared.NodeStatus, error) {
	resp, err := c.marketplace.Status(ctx, &marketpb.StatusRequest{})
	return fromNodeStatus(resp), fromStatus(ctx, err)
}

// Peers implements shared.Marketplace.
func (c *Client) Peers(ctx context.Context, query shared.PeerQuery) (list shared.PeerList, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Peers(ctx, &marketpb.PeersRequest{Id: query.ID, ConnectedOnly: query.ConnectedOnly, MinReputation: query.MinReputation})
	if err != nil {
		return list, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(piece *marketpb.PeersResponse) {
		list.Peers = append(list.Peers, each(piece.GetPeers(), fromPeer)...)
		list.Total += int(piece.GetTotal())
	})
	return list, err
}

// Bootstrap implements shared.Marketplace.
func (c *Client) Bootstrap(ctx context.Context, addresses []string) ([]shared.DialOutcome, error) {
	resp, err := c.marketplace.Bootstrap(ctx, &marketpb.BootstrapRequest{Addresses: addresses})
	return each(resp.GetOutcomes(), fromOutcome), fromStatus(ctx, err)
}

// Watch implements shared.Marketplace.
func (c *Client) Watch(ctx context.Context, query shared.WatchQuery, deliver func(shared.Event) error) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	kinds := each(query.Kinds, func(k shared.EventKind) string { return string(k) })
	stream, err := c.marketplace.Watch(watching, &marketpb.WatchRequest{Kinds: kinds, Text: query.Text})
	if err != nil {
		return fromStatus(ctx, err)
	}
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return incomplete("watch")
		}
		if err != nil {
			return fromStatus(ctx, err)
		}
		if err := deliver(fromEvent(ev)); err != nil {
			return err
		}
	}
}

// Stay implements Control.
func (c *Client) Stay(ctx context.Context) error {
	_, err := c.control.Stay(ctx, &marketpb.StayRequest{})
	return fromStatus(ctx, err)
}

// Stop implements Control.
func (c *Client) Stop(ctx context.Context, grace time.Duration) error {
	_, err := c.control.Stop(ctx, &marketpb.StopRequest{Grace: durationpb.New(grace)})
	return fromStatus(ctx, err)
}

// maxReply bounds all messages of a reply together, in bytes: a page of search
// results has a few hundred kilobytes, the files of the largest package four
// megabytes.
const maxReply = 16 << 20

// receive takes all messages of a stream until its end.
func receive[M any, P interface {
	*M
	proto.Message
}](ctx context.Context, stream interface{ Recv() (*M, error) }, take func(*M)) error {
	for size := 0; ; {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromStatus(ctx, err)
		}
		if size += proto.Size(P(message)); size > maxReply {
			return shared.NewError(shared.ReasonEngineFailed, "the engine's answer does not end: it has over %d MiB", maxReply>>20).
				WithHint("engine and ggen do not fit together: `ggen marketplace plugin list` shows their versions")
		}
		take(message)
	}
}

func incomplete(call string) error {
	return shared.NewError(shared.ReasonInternal, "%s: the engine's answer has no end", call).
		WithHint("engine and ggen do not fit together: `ggen marketplace plugin list` shows their versions")
}
