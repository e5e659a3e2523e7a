package rpc

import (
	"context"

	"google.golang.org/grpc"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// Export implements shared.Bundles.
func (c *Client) Export(ctx context.Context, req shared.ExportRequest, report shared.ProgressFunc) (receipt shared.ExportReceipt, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Export(ctx, toExport(req))
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(resp *marketpb.ExportResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.ExportResponse_Progress:
			report.Report(fromProgress(part.Progress))
		case *marketpb.ExportResponse_Receipt:
			receipt, whole = fromExportReceipt(part.Receipt), true
		}
	})
	if err == nil && !whole {
		err = incomplete("export")
	}
	return receipt, err
}

// Import implements shared.Bundles.
func (c *Client) Import(ctx context.Context, file string, report shared.ProgressFunc) (receipt shared.ImportReceipt, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Import(ctx, &marketpb.ImportRequest{File: file})
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(resp *marketpb.ImportResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.ImportResponse_Progress:
			report.Report(fromProgress(part.Progress))
		case *marketpb.ImportResponse_Receipt:
			receipt, whole = fromImportReceipt(part.Receipt), true
		}
	})
	if err == nil && !whole {
		err = incomplete("import")
	}
	return receipt, err
}

// Prove implements shared.Bundles.
func (c *Client) Prove(ctx context.Context, ref shared.Ref, file string) (shared.Provenance, error) {
	resp, err := c.marketplace.Prove(ctx, &marketpb.ProveRequest{Ref: toRef(ref), File: clean(file, maxErrorText)})
	if err != nil {
		return shared.Provenance{}, fromStatus(ctx, err)
	}
	return fromProvenance(resp), nil
}

func (s *marketplaceServer) Export(req *marketpb.ExportRequest, stream grpc.ServerStreamingServer[marketpb.ExportResponse]) error {
	var sendErr error
	receipt, err := s.impl.Export(stream.Context(), fromExport(req), func(p shared.Progress) {
		if sendErr == nil {
			sendErr = stream.Send(&marketpb.ExportResponse{Part: &marketpb.ExportResponse_Progress{Progress: toProgress(p)}})
		}
	})
	if err != nil {
		return toStatus(err)
	}
	return stream.Send(&marketpb.ExportResponse{Part: &marketpb.ExportResponse_Receipt{Receipt: toExportReceipt(receipt)}})
}

func (s *marketplaceServer) Import(req *marketpb.ImportRequest, stream grpc.ServerStreamingServer[marketpb.ImportResponse]) error {
	var sendErr error
	receipt, err := s.impl.Import(stream.Context(), req.GetFile(), func(p shared.Progress) {
		if sendErr == nil {
			sendErr = stream.Send(&marketpb.ImportResponse{Part: &marketpb.ImportResponse_Progress{Progress: toProgress(p)}})
		}
	})
	if err != nil {
		return toStatus(err)
	}
	return stream.Send(&marketpb.ImportResponse{Part: &marketpb.ImportResponse_Receipt{Receipt: toImportReceipt(receipt)}})
}

func (s *marketplaceServer) Prove(ctx context.Context, req *marketpb.ProveRequest) (*marketpb.ProveResponse, error) {
	proven, err := s.impl.Prove(ctx, fromRef(req.GetRef()), req.GetFile())
	return toProvenance(proven), toStatus(err)
}

func toExport(r shared.ExportRequest) *marketpb.ExportRequest {
	return &marketpb.ExportRequest{File: r.File, Packages: each(r.Packages, toRef), Locked: each(r.Locked, toLocked), Offline: r.Offline}
}

func fromExport(r *marketpb.ExportRequest) shared.ExportRequest {
	return shared.ExportRequest{File: r.GetFile(), Packages: each(r.GetPackages(), fromRef), Locked: each(r.GetLocked(), fromLocked), Offline: r.GetOffline()}
}

func toExportReceipt(r shared.ExportReceipt) *marketpb.ExportReceipt {
	return &marketpb.ExportReceipt{Packages: each(r.Packages, toLocked), Bytes: r.Bytes, Diagnostics: toDiagnostics(r.Diagnostics)}
}

func fromExportReceipt(r *marketpb.ExportReceipt) shared.ExportReceipt {
	return shared.ExportReceipt{Packages: each(r.GetPackages(), fromLocked), Bytes: r.GetBytes(), Diagnostics: fromDiagnostics(r.GetDiagnostics())}
}

func toImportReceipt(r shared.ImportReceipt) *marketpb.ImportReceipt {
	return &marketpb.ImportReceipt{Packages: each(r.Packages, toLocked), Entries: r.Entries}
}

func fromImportReceipt(r *marketpb.ImportReceipt) shared.ImportReceipt {
	return shared.ImportReceipt{Packages: each(r.GetPackages(), fromLocked), Entries: r.GetEntries()}
}

func toProvenance(p shared.Provenance) *marketpb.ProveResponse {
	return &marketpb.ProveResponse{
		Name: p.Name, Version: p.Version, Publisher: string(p.Publisher), File: toFile(p.File), Index: string(p.Index), Archive: string(p.Archive),
		Entry: p.Entry, EntryHash: string(p.EntryHash), EntryTime: toTime(p.EntryTime), PathLength: int32(p.PathLength),
		LogSize: p.LogSize, LogHash: string(p.LogHash), HeadTime: toTime(p.HeadTime), Rule: string(p.Rule),
		Roots: each(p.Roots, func(r shared.ProvenRoot) *marketpb.ProvenRoot {
			return &marketpb.ProvenRoot{Version: int32(r.Version), Digest: string(r.Digest), Keys: r.Keys, Threshold: int32(r.Threshold), Recovers: r.Recovers}
		}),
	}
}

func fromProvenance(p *marketpb.ProveResponse) shared.Provenance {
	return shared.Provenance{
		Name: p.GetName(), Version: p.GetVersion(), Publisher: shared.PublisherID(p.GetPublisher()), File: fromFile(p.GetFile()),
		Index: shared.Digest(p.GetIndex()), Archive: shared.Digest(p.GetArchive()),
		Entry: p.GetEntry(), EntryHash: shared.Digest(p.GetEntryHash()), EntryTime: fromTime(p.GetEntryTime()), PathLength: int(p.GetPathLength()),
		LogSize: p.GetLogSize(), LogHash: shared.Digest(p.GetLogHash()), HeadTime: fromTime(p.GetHeadTime()), Rule: shared.TrustRule(p.GetRule()),
		Roots: each(p.GetRoots(), func(r *marketpb.ProvenRoot) shared.ProvenRoot {
			return shared.ProvenRoot{Version: int(r.GetVersion()), Digest: shared.Digest(r.GetDigest()), Keys: r.GetKeys(), Threshold: int(r.GetThreshold()), Recovers: r.GetRecovers()}
		}),
	}
}
