package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"ggen.dev/marketplace/shared"
)

// Explain knows every publisher of the network folder.
func (s *folderSession) Explain(ctx context.Context, name string) (shared.TrustReport, error) {
	if err := s.fault(ctx, "explain"); err != nil {
		return shared.TrustReport{}, err
	}
	report := shared.TrustReport{Name: name, Rule: shared.RuleNone}
	releases, err := s.releases()
	if err != nil {
		return report, err
	}
	for _, r := range releases {
		if r.Name == name {
			report.Candidates = append(report.Candidates, shared.Candidate{
				Publisher: r.Publisher, Newest: r.Version, Releases: 1, FirstSeen: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Holders: 2,
			})
		}
	}
	switch len(report.Candidates) {
	case 0:
		return report, shared.NewError(shared.ReasonNotFound, "no package %s", name)
	case 1:
		report.Rule, report.Publisher = shared.RuleOnly, report.Candidates[0].Publisher
	}
	if name == "bsae" {
		report.LookAlikes = []shared.LookAlike{{Name: "base", Publisher: s.publisher(), Why: "one letter differs; that one is pinned here"}}
	}
	return report, nil
}

// catalogues is where the fake engine keeps trust catalogues, unsigned.
func (s *folderSession) catalogues() string { return s.engines.network() + "-catalogues.json" }

// TrustCatalogues lists them.
func (s *folderSession) TrustCatalogues(context.Context) (list []shared.TrustCatalogue, err error) {
	data, err := os.ReadFile(s.catalogues())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, errors.Join(err, json.Unmarshal(data, &list))
}

func (s *folderSession) keepCatalogues(list []shared.TrustCatalogue) error {
	data, err := json.Marshal(list)
	return errors.Join(err, os.WriteFile(s.catalogues(), data, 0o600))
}

// AddTrustCatalogue takes what SignTrustCatalogue made.
func (s *folderSession) AddTrustCatalogue(ctx context.Context, signed []byte) (c shared.TrustCatalogue, err error) {
	if err := json.Unmarshal(signed, &c); err != nil {
		return c, shared.NewError(shared.ReasonInvalidArgument, "this is not a signed trust catalogue")
	}
	list, err := s.TrustCatalogues(ctx)
	return c, errors.Join(err, s.keepCatalogues(append(list, c)))
}

// RemoveTrustCatalogue removes by title.
func (s *folderSession) RemoveTrustCatalogue(ctx context.Context, _ shared.PublisherID, title string) (c shared.TrustCatalogue, err error) {
	list, err := s.TrustCatalogues(ctx)
	i := slices.IndexFunc(list, func(c shared.TrustCatalogue) bool { return c.Title == title })
	if err != nil || i < 0 {
		return c, errors.Join(err, shared.NewError(shared.ReasonNotFound, "no catalogue %q is followed", title))
	}
	return list[i], s.keepCatalogues(slices.Delete(slices.Clone(list), i, i+1))
}

// SignTrustCatalogue signs nothing.
func (s *folderSession) SignTrustCatalogue(_ context.Context, draft shared.TrustCatalogue) ([]byte, error) {
	draft.Signer, draft.Issued = s.publisher(), time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	return json.Marshal(draft)
}

// ForkProof has one for every publisher.
func (s *folderSession) ForkProof(_ context.Context, id shared.PublisherID) ([]byte, error) {
	return json.Marshal(map[string]string{"proof": string(id)})
}

// CheckForkProof believes its own.
func (s *folderSession) CheckForkProof(_ context.Context, proof []byte) (shared.ForkVerdict, error) {
	if !json.Valid(proof) {
		return shared.ForkVerdict{}, shared.NewError(shared.ReasonInvalidArgument, "this is not a proof")
	}
	signed := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	return shared.ForkVerdict{
		Publisher: s.publisher(), Size: 3, First: shared.DigestOf([]byte("a")), Second: shared.DigestOf([]byte("b")),
		FirstTime: signed, SecondTime: signed, Quarantined: true,
	}, nil
}
