package main

import (
	"context"
	"slices"
	"time"

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

// Pins knows one that a test set.
func (s *folderSession) Pins(ctx context.Context) ([]shared.Pin, error) {
	var pins []shared.Pin
	if id := s.engines.env("TEST_PIN"); id != "" {
		pins = append(pins, shared.Pin{Name: "app", Publisher: shared.PublisherID(id), Since: time.Unix(1_700_000_000, 0)})
	}
	return pins, s.fault(ctx, "trust")
}

// SetPin says what was pinned.
func (s *folderSession) SetPin(ctx context.Context, name string, _ shared.PublisherID) (shared.Pin, error) {
	return shared.Pin{Name: name}, s.fault(ctx, "trust")
}
