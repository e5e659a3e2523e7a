package rpc

import (
	"context"

	"google.golang.org/grpc"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// Pins implements shared.Trust.
func (c *Client) Pins(ctx context.Context) (pins []shared.Pin, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.Pins(ctx, &marketpb.PinsRequest{})
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(piece *marketpb.PinsResponse) { pins = append(pins, each(piece.GetPins(), fromPin)...) })
	return pins, err
}

// SetPin implements shared.Trust.
func (c *Client) SetPin(ctx context.Context, name string, publisher shared.PublisherID) (shared.Pin, error) {
	resp, err := c.marketplace.SetPin(ctx, &marketpb.SetPinRequest{Name: name, Publisher: string(publisher)})
	if err != nil {
		return shared.Pin{}, fromStatus(ctx, err)
	}
	return fromPin(resp.GetFormer()), nil
}

// Explain implements shared.Trust.
func (c *Client) Explain(ctx context.Context, name string) (shared.TrustReport, error) {
	resp, err := c.marketplace.Explain(ctx, &marketpb.ExplainRequest{Name: clean(name, maxErrorText)})
	if err != nil {
		return shared.TrustReport{}, fromStatus(ctx, err)
	}
	return fromReport(resp), nil
}

// TrustCatalogues implements shared.Trust.
func (c *Client) TrustCatalogues(ctx context.Context) (list []shared.TrustCatalogue, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a reply that is not read to its end
	stream, err := c.marketplace.TrustCatalogues(ctx, &marketpb.TrustCataloguesRequest{})
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	err = receive(ctx, stream, func(piece *marketpb.TrustCataloguesResponse) {
		list = append(list, fromCatalogue(piece.GetCatalogue()))
	})
	return list, err
}

// AddTrustCatalogue implements shared.Trust.
func (c *Client) AddTrustCatalogue(ctx context.Context, signed []byte) (shared.TrustCatalogue, error) {
	if len(signed) > shared.MaxTrustCatalogue {
		return shared.TrustCatalogue{}, shared.NewError(shared.ReasonLimitExceeded, "the trust catalogue has %d bytes; %d are allowed", len(signed), shared.MaxTrustCatalogue)
	}
	resp, err := c.marketplace.AddTrustCatalogue(ctx, &marketpb.AddTrustCatalogueRequest{Signed: signed})
	if err != nil {
		return shared.TrustCatalogue{}, fromStatus(ctx, err)
	}
	return fromCatalogue(resp.GetCatalogue()), nil
}

// RemoveTrustCatalogue implements shared.Trust.
func (c *Client) RemoveTrustCatalogue(ctx context.Context, signer shared.PublisherID, title string) (shared.TrustCatalogue, error) {
	resp, err := c.marketplace.RemoveTrustCatalogue(ctx, &marketpb.RemoveTrustCatalogueRequest{Signer: string(signer), Title: clean(title, maxErrorText)})
	if err != nil {
		return shared.TrustCatalogue{}, fromStatus(ctx, err)
	}
	return fromCatalogue(resp.GetCatalogue()), nil
}

// SignTrustCatalogue implements shared.Trust.
func (c *Client) SignTrustCatalogue(ctx context.Context, draft shared.TrustCatalogue) ([]byte, error) {
	resp, err := c.marketplace.SignTrustCatalogue(ctx, &marketpb.SignTrustCatalogueRequest{Draft: toCatalogue(draft)})
	return resp.GetSigned(), fromStatus(ctx, err)
}

// ForkProof implements shared.Trust.
func (c *Client) ForkProof(ctx context.Context, publisher shared.PublisherID) ([]byte, error) {
	resp, err := c.marketplace.ForkProof(ctx, &marketpb.ForkProofRequest{Publisher: string(publisher)})
	return resp.GetProof(), fromStatus(ctx, err)
}

// CheckForkProof implements shared.Trust.
func (c *Client) CheckForkProof(ctx context.Context, proof []byte) (shared.ForkVerdict, error) {
	resp, err := c.marketplace.CheckForkProof(ctx, &marketpb.CheckForkProofRequest{Proof: proof})
	if err != nil {
		return shared.ForkVerdict{}, fromStatus(ctx, err)
	}
	return fromVerdict(resp), nil
}

func (s *marketplaceServer) Pins(_ *marketpb.PinsRequest, stream grpc.ServerStreamingServer[marketpb.PinsResponse]) error {
	pins, err := s.impl.Pins(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	return pieces(each(pins, toPin), func(piece []*marketpb.Pin) error {
		return stream.Send(&marketpb.PinsResponse{Pins: piece})
	})
}

func (s *marketplaceServer) SetPin(ctx context.Context, req *marketpb.SetPinRequest) (*marketpb.SetPinResponse, error) {
	former, err := s.impl.SetPin(ctx, req.GetName(), shared.PublisherID(req.GetPublisher()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &marketpb.SetPinResponse{Former: toPin(former)}, nil
}

func (s *marketplaceServer) Explain(ctx context.Context, req *marketpb.ExplainRequest) (*marketpb.ExplainResponse, error) {
	report, err := s.impl.Explain(ctx, req.GetName())
	return toReport(report), toStatus(err)
}

func (s *marketplaceServer) TrustCatalogues(_ *marketpb.TrustCataloguesRequest, stream grpc.ServerStreamingServer[marketpb.TrustCataloguesResponse]) error {
	list, err := s.impl.TrustCatalogues(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	for _, catalogue := range list {
		if err := stream.Send(&marketpb.TrustCataloguesResponse{Catalogue: toCatalogue(catalogue)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *marketplaceServer) AddTrustCatalogue(ctx context.Context, req *marketpb.AddTrustCatalogueRequest) (*marketpb.AddTrustCatalogueResponse, error) {
	added, err := s.impl.AddTrustCatalogue(ctx, req.GetSigned())
	return &marketpb.AddTrustCatalogueResponse{Catalogue: toCatalogue(added)}, toStatus(err)
}

func (s *marketplaceServer) RemoveTrustCatalogue(ctx context.Context, req *marketpb.RemoveTrustCatalogueRequest) (*marketpb.RemoveTrustCatalogueResponse, error) {
	removed, err := s.impl.RemoveTrustCatalogue(ctx, shared.PublisherID(req.GetSigner()), req.GetTitle())
	return &marketpb.RemoveTrustCatalogueResponse{Catalogue: toCatalogue(removed)}, toStatus(err)
}

func (s *marketplaceServer) SignTrustCatalogue(ctx context.Context, req *marketpb.SignTrustCatalogueRequest) (*marketpb.SignTrustCatalogueResponse, error) {
	signed, err := s.impl.SignTrustCatalogue(ctx, fromCatalogue(req.GetDraft()))
	return &marketpb.SignTrustCatalogueResponse{Signed: signed}, toStatus(err)
}

func (s *marketplaceServer) ForkProof(ctx context.Context, req *marketpb.ForkProofRequest) (*marketpb.ForkProofResponse, error) {
	proof, err := s.impl.ForkProof(ctx, shared.PublisherID(req.GetPublisher()))
	return &marketpb.ForkProofResponse{Proof: proof}, toStatus(err)
}

func (s *marketplaceServer) CheckForkProof(ctx context.Context, req *marketpb.CheckForkProofRequest) (*marketpb.CheckForkProofResponse, error) {
	verdict, err := s.impl.CheckForkProof(ctx, req.GetProof())
	return toVerdict(verdict), toStatus(err)
}

func toPin(p shared.Pin) *marketpb.Pin {
	return &marketpb.Pin{Name: p.Name, Publisher: string(p.Publisher), Since: toTime(p.Since)}
}

func fromPin(p *marketpb.Pin) shared.Pin {
	return shared.Pin{Name: p.GetName(), Publisher: shared.PublisherID(p.GetPublisher()), Since: fromTime(p.GetSince())}
}

func toReport(r shared.TrustReport) *marketpb.ExplainResponse {
	return &marketpb.ExplainResponse{
		Name: r.Name, Rule: string(r.Rule), Publisher: string(r.Publisher), Since: toTime(r.Since), Catalogue: r.Catalogue,
		Candidates: each(r.Candidates, func(c shared.Candidate) *marketpb.Candidate {
			return &marketpb.Candidate{Publisher: string(c.Publisher), Newest: c.Newest, Releases: int32(c.Releases), FirstSeen: toTime(c.FirstSeen), Holders: int32(c.Holders)}
		}),
		LookAlikes: each(r.LookAlikes, func(l shared.LookAlike) *marketpb.LookAlike {
			return &marketpb.LookAlike{Name: l.Name, Publisher: string(l.Publisher), Why: l.Why}
		}),
	}
}

func fromReport(r *marketpb.ExplainResponse) shared.TrustReport {
	return shared.TrustReport{
		Name: r.GetName(), Rule: shared.TrustRule(r.GetRule()), Publisher: shared.PublisherID(r.GetPublisher()), Since: fromTime(r.GetSince()), Catalogue: r.GetCatalogue(),
		Candidates: each(r.GetCandidates(), func(c *marketpb.Candidate) shared.Candidate {
			return shared.Candidate{
				Publisher: shared.PublisherID(c.GetPublisher()), Newest: c.GetNewest(), Releases: int(c.GetReleases()),
				FirstSeen: fromTime(c.GetFirstSeen()), Holders: int(c.GetHolders()),
			}
		}),
		LookAlikes: each(r.GetLookAlikes(), func(l *marketpb.LookAlike) shared.LookAlike {
			return shared.LookAlike{Name: l.GetName(), Publisher: shared.PublisherID(l.GetPublisher()), Why: l.GetWhy()}
		}),
	}
}

func toCatalogue(c shared.TrustCatalogue) *marketpb.TrustCatalogue {
	return &marketpb.TrustCatalogue{
		Title: clean(c.Title, maxErrorText), Signer: string(c.Signer), Serial: c.Serial, Issued: toTime(c.Issued),
		Names: each(c.Names, func(n shared.CatalogueName) *marketpb.CatalogueName {
			return &marketpb.CatalogueName{Name: clean(n.Name, maxErrorText), Publisher: clean(string(n.Publisher), maxErrorText)}
		}),
	}
}

func fromCatalogue(c *marketpb.TrustCatalogue) shared.TrustCatalogue {
	return shared.TrustCatalogue{
		Title: c.GetTitle(), Signer: shared.PublisherID(c.GetSigner()), Serial: c.GetSerial(), Issued: fromTime(c.GetIssued()),
		Names: each(c.GetNames(), func(n *marketpb.CatalogueName) shared.CatalogueName {
			return shared.CatalogueName{Name: n.GetName(), Publisher: shared.PublisherID(n.GetPublisher())}
		}),
	}
}

func toVerdict(v shared.ForkVerdict) *marketpb.CheckForkProofResponse {
	return &marketpb.CheckForkProofResponse{
		Publisher: string(v.Publisher), Size: v.Size, First: string(v.First), Second: string(v.Second),
		FirstTime: toTime(v.FirstTime), SecondTime: toTime(v.SecondTime), Quarantined: v.Quarantined,
	}
}

func fromVerdict(v *marketpb.CheckForkProofResponse) shared.ForkVerdict {
	return shared.ForkVerdict{
		Publisher: shared.PublisherID(v.GetPublisher()), Size: v.GetSize(), First: shared.Digest(v.GetFirst()), Second: shared.Digest(v.GetSecond()),
		FirstTime: fromTime(v.GetFirstTime()), SecondTime: fromTime(v.GetSecondTime()), Quarantined: v.GetQuarantined(),
	}
}
