package main

import (
	"context"
	"slices"

	"ggen.dev/marketplace/shared"
)

// Declare knows what was released, and forgets what was stated.
func (s *folderSession) Declare(ctx context.Context, statement shared.Statement) (shared.DeclareReceipt, error) {
	if err := s.fault(ctx, "declare"); err != nil {
		return shared.DeclareReceipt{}, err
	}
	all, err := s.releases()
	if err != nil {
		return shared.DeclareReceipt{}, err
	}
	if !slices.ContainsFunc(all, func(r fakeRelease) bool {
		return r.Name == statement.Package && r.Publisher == s.publisher() && (statement.Version == "" || statement.Version == r.Version)
	}) {
		return shared.DeclareReceipt{}, shared.NewError(shared.ReasonNotFound, "you have released no package %s", statement.Package)
	}
	return shared.DeclareReceipt{Publisher: s.publisher(), LogSize: int64(len(all)) + 1}, nil
}
