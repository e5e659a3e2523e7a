package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// CacheStats implements shared.Cache.
func (c *Client) CacheStats(ctx context.Context) (stats shared.CacheStats, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.CacheStats(ctx, &marketpb.CacheStatsRequest{})
	if err != nil {
		return stats, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(part *marketpb.CacheStatsResponse) {
		if !whole {
			stats, whole = fromCacheStats(part), true
		}
		stats.Pins = append(stats.Pins, each(part.GetPins(), fromPinnedContent)...)
	})
	if err == nil && !whole {
		err = incomplete("cache stats")
	}
	return stats, err
}

// CleanCache implements shared.Cache.
func (c *Client) CleanCache(ctx context.Context, req shared.CleanRequest) (receipt shared.CleanReceipt, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.CleanCache(ctx, &marketpb.CleanCacheRequest{
		Packages: each(req.Packages, toRef), Unused: durationpb.New(req.Unused), DryRun: req.DryRun,
	})
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(part *marketpb.CleanCacheResponse) {
		receipt.Packages = append(receipt.Packages, each(part.GetPackages(), fromCleaned)...)
		receipt.Bytes += part.GetBytes()
		receipt.Diagnostics = append(receipt.Diagnostics, fromDiagnostics(part.GetDiagnostics())...)
	})
	return receipt, err
}

// VerifyCache implements shared.Cache.
func (c *Client) VerifyCache(ctx context.Context, report shared.ProgressFunc) (found shared.CacheReport, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.VerifyCache(ctx, &marketpb.VerifyCacheRequest{})
	if err != nil {
		return found, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(part *marketpb.VerifyCacheResponse) {
		if part.GetProgress() != nil {
			report.Report(fromProgress(part.GetProgress()))
		}
		found.Damaged = append(found.Damaged, each(part.GetDamaged(), fromDamaged)...)
		found.Checked, found.Bytes = found.Checked+int(part.GetChecked()), found.Bytes+part.GetBytes()
	})
	return found, err
}

// PinContent implements shared.Cache.
func (c *Client) PinContent(ctx context.Context, req shared.PinRequest, report shared.ProgressFunc) (receipt shared.PinReceipt, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.PinContent(ctx, &marketpb.PinContentRequest{Packages: each(req.Packages, toRef), Offline: req.Offline})
	if err != nil {
		return receipt, fromStatus(ctx, err)
	}
	whole := false
	err = receive(ctx, stream, func(resp *marketpb.PinContentResponse) {
		switch part := resp.GetPart().(type) {
		case *marketpb.PinContentResponse_Progress:
			report.Report(fromProgress(part.Progress))
		case *marketpb.PinContentResponse_Receipt:
			r := part.Receipt
			receipt = shared.PinReceipt{Packages: each(r.GetPackages(), fromPinnedContent), Fetched: r.GetFetched(), Diagnostics: fromDiagnostics(r.GetDiagnostics())}
			whole = true
		}
	})
	if err == nil && !whole {
		err = incomplete("cache pin")
	}
	return receipt, err
}

// UnpinContent implements shared.Cache.
func (c *Client) UnpinContent(ctx context.Context, ref shared.Ref) ([]shared.PinnedContent, error) {
	resp, err := c.marketplace.UnpinContent(ctx, &marketpb.UnpinContentRequest{Ref: toRef(ref)})
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	return each(resp.GetPackages(), fromPinnedContent), nil
}

func (s *marketplaceServer) CacheStats(_ *marketpb.CacheStatsRequest, stream grpc.ServerStreamingServer[marketpb.CacheStatsResponse]) error {
	stats, err := s.impl.CacheStats(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	if err := stream.Send(toCacheStats(stats)); err != nil {
		return err
	}
	return pieces(each(stats.Pins, toPinnedContent), func(piece []*marketpb.PinnedContent) error {
		return stream.Send(&marketpb.CacheStatsResponse{Pins: piece})
	})
}

func (s *marketplaceServer) CleanCache(req *marketpb.CleanCacheRequest, stream grpc.ServerStreamingServer[marketpb.CleanCacheResponse]) error {
	receipt, err := s.impl.CleanCache(stream.Context(), shared.CleanRequest{
		Packages: each(req.GetPackages(), fromRef), Unused: req.GetUnused().AsDuration(), DryRun: req.GetDryRun(),
	})
	if err != nil {
		return toStatus(err)
	}
	if err := pieces(each(receipt.Packages, toCleaned), func(piece []*marketpb.CleanedPackage) error {
		return stream.Send(&marketpb.CleanCacheResponse{Packages: piece})
	}); err != nil {
		return err
	}
	return stream.Send(&marketpb.CleanCacheResponse{Bytes: receipt.Bytes, Diagnostics: toDiagnostics(receipt.Diagnostics)})
}

func (s *marketplaceServer) VerifyCache(_ *marketpb.VerifyCacheRequest, stream grpc.ServerStreamingServer[marketpb.VerifyCacheResponse]) error {
	var sendErr error
	found, err := s.impl.VerifyCache(stream.Context(), func(p shared.Progress) {
		if sendErr == nil {
			sendErr = stream.Send(&marketpb.VerifyCacheResponse{Progress: toProgress(p)})
		}
	})
	if err != nil {
		return toStatus(err)
	}
	if err := pieces(each(found.Damaged, toDamaged), func(piece []*marketpb.DamagedContent) error {
		return stream.Send(&marketpb.VerifyCacheResponse{Damaged: piece})
	}); err != nil {
		return err
	}
	return stream.Send(&marketpb.VerifyCacheResponse{Checked: int64(found.Checked), Bytes: found.Bytes})
}

func (s *marketplaceServer) PinContent(req *marketpb.PinContentRequest, stream grpc.ServerStreamingServer[marketpb.PinContentResponse]) error {
	var sendErr error
	receipt, err := s.impl.PinContent(stream.Context(), shared.PinRequest{Packages: each(req.GetPackages(), fromRef), Offline: req.GetOffline()}, func(p shared.Progress) {
		if sendErr == nil {
			sendErr = stream.Send(&marketpb.PinContentResponse{Part: &marketpb.PinContentResponse_Progress{Progress: toProgress(p)}})
		}
	})
	if err != nil {
		return toStatus(err)
	}
	return stream.Send(&marketpb.PinContentResponse{Part: &marketpb.PinContentResponse_Receipt{Receipt: &marketpb.PinContentReceipt{
		Packages: each(receipt.Packages, toPinnedContent), Fetched: receipt.Fetched, Diagnostics: toDiagnostics(receipt.Diagnostics),
	}}})
}

func (s *marketplaceServer) UnpinContent(ctx context.Context, req *marketpb.UnpinContentRequest) (*marketpb.UnpinContentResponse, error) {
	released, err := s.impl.UnpinContent(ctx, fromRef(req.GetRef()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &marketpb.UnpinContentResponse{Packages: each(released, toPinnedContent)}, nil
}

func toCacheStats(s shared.CacheStats) *marketpb.CacheStatsResponse {
	return &marketpb.CacheStatsResponse{
		Tiers: each(s.Tiers, func(t shared.TierStats) *marketpb.TierStats {
			return &marketpb.TierStats{Name: t.Name, Entries: int64(t.Entries), Limit: int64(t.Limit), Lifetime: durationpb.New(t.Lifetime), Hits: t.Hits, Misses: t.Misses}
		}),
		Limit: s.Limit, Lifetime: durationpb.New(s.Lifetime),
		Published: toAmount(s.Published), Pinned: toAmount(s.Pinned), Installed: toAmount(s.Installed), Other: toAmount(s.Other),
	}
}

func fromCacheStats(s *marketpb.CacheStatsResponse) shared.CacheStats {
	return shared.CacheStats{
		Tiers: each(s.GetTiers(), func(t *marketpb.TierStats) shared.TierStats {
			return shared.TierStats{
				Name: t.GetName(), Entries: int(t.GetEntries()), Limit: int(t.GetLimit()), Lifetime: t.GetLifetime().AsDuration(), Hits: t.GetHits(), Misses: t.GetMisses(),
			}
		}),
		Limit: s.GetLimit(), Lifetime: s.GetLifetime().AsDuration(),
		Published: fromAmount(s.GetPublished()), Pinned: fromAmount(s.GetPinned()), Installed: fromAmount(s.GetInstalled()), Other: fromAmount(s.GetOther()),
	}
}

func toAmount(a shared.CacheAmount) *marketpb.CacheAmount {
	return &marketpb.CacheAmount{Packages: int64(a.Packages), Bytes: a.Bytes}
}

func fromAmount(a *marketpb.CacheAmount) shared.CacheAmount {
	return shared.CacheAmount{Packages: int(a.GetPackages()), Bytes: a.GetBytes()}
}

func toPinnedContent(p shared.PinnedContent) *marketpb.PinnedContent {
	return &marketpb.PinnedContent{
		Name: p.Name, Publisher: string(p.Publisher), Version: p.Version, Since: toTime(p.Since), Packages: int64(p.Packages), Bytes: p.Bytes,
	}
}

func fromPinnedContent(p *marketpb.PinnedContent) shared.PinnedContent {
	return shared.PinnedContent{
		Name: p.GetName(), Publisher: shared.PublisherID(p.GetPublisher()), Version: p.GetVersion(), Since: fromTime(p.GetSince()), Packages: int(p.GetPackages()), Bytes: p.GetBytes(),
	}
}

func toCleaned(p shared.CleanedPackage) *marketpb.CleanedPackage {
	return &marketpb.CleanedPackage{Name: p.Name, Publisher: string(p.Publisher), Version: p.Version, Bytes: p.Bytes}
}

func fromCleaned(p *marketpb.CleanedPackage) shared.CleanedPackage {
	return shared.CleanedPackage{Name: p.GetName(), Publisher: shared.PublisherID(p.GetPublisher()), Version: p.GetVersion(), Bytes: p.GetBytes()}
}

func toDamaged(d shared.DamagedContent) *marketpb.DamagedContent {
	return &marketpb.DamagedContent{Digest: string(d.Digest), Name: d.Name, Version: d.Version, Own: d.Own}
}

func fromDamaged(d *marketpb.DamagedContent) shared.DamagedContent {
	return shared.DamagedContent{Digest: shared.Digest(d.GetDigest()), Name: d.GetName(), Version: d.GetVersion(), Own: d.GetOwn()}
}
