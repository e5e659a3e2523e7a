package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"ggen.dev/marketplace/shared"
)

// Export writes the names of what Install would install.
func (s *folderSession) Export(ctx context.Context, req shared.ExportRequest, report shared.ProgressFunc) (shared.ExportReceipt, error) {
	installed, err := s.Install(ctx, shared.InstallRequest{Packages: req.Packages, Locked: req.Locked, DryRun: true}, report)
	if err != nil {
		return shared.ExportReceipt{}, err
	}
	var receipt shared.ExportReceipt
	for _, pkg := range installed.Packages {
		receipt.Packages = append(receipt.Packages, pkg.LockedPackage)
	}
	data, err := json.Marshal(receipt.Packages)
	if err != nil {
		return receipt, err
	}
	receipt.Bytes = int64(len(data))
	return receipt, os.WriteFile(req.File, data, 0o600)
}

// Import reads them again.
func (s *folderSession) Import(ctx context.Context, file string, _ shared.ProgressFunc) (receipt shared.ImportReceipt, err error) {
	if err := s.fault(ctx, "import"); err != nil {
		return receipt, err
	}
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &receipt.Packages) != nil {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "the file is no bundle of packages")
	}
	receipt.Entries = int64(len(receipt.Packages))
	return receipt, nil
}

// Prove proves nothing, in the right form.
func (s *folderSession) Prove(_ context.Context, ref shared.Ref, file string) (shared.Provenance, error) {
	r, err := s.find(ref, nil)
	if err != nil {
		return shared.Provenance{}, err
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	p := shared.Provenance{
		Name: r.Name, Version: r.Version, Publisher: r.Publisher, Index: r.Digest, Archive: r.Digest, Entry: 1, EntryHash: r.Digest, EntryTime: at,
		PathLength: 1, LogSize: 2, LogHash: r.Digest, HeadTime: at, Rule: shared.RulePin,
		Roots: []shared.ProvenRoot{{Version: 1, Digest: r.Digest, Keys: []string{"a2V5"}, Threshold: 1}},
	}
	if file != "" {
		p.File = shared.FileInfo{Path: file, Size: int64(len(r.Files[file].Content)), Digest: shared.DigestOf(r.Files[file].Content)}
	}
	return p, nil
}
