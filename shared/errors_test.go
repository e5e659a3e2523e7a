package shared_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"ggen.dev/marketplace/shared"
)

func TestErrorIs(t *testing.T) {
	notFound := shared.NewError(shared.ReasonNotFound, "describe %s: %w", "x", io.EOF)
	wrapped := fmt.Errorf("outer: %w", notFound)
	for _, tc := range []struct {
		name   string
		err    error
		target error
		want   bool
	}{
		{"reason", wrapped, shared.ReasonNotFound, true},
		{"other reason", wrapped, shared.ReasonInternal, false},
		{"error of the same reason", wrapped, shared.NewError(shared.ReasonNotFound, "y"), true},
		{"cause", wrapped, io.EOF, true},
		{"canceled", shared.NewError(shared.ReasonCanceled, "stop"), context.Canceled, true},
		{"deadline", shared.NewError(shared.ReasonDeadlineExceeded, "late"), context.DeadlineExceeded, true},
		{"deadline is not canceled", shared.NewError(shared.ReasonDeadlineExceeded, "late"), context.Canceled, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := errors.Is(tc.err, tc.target); got != tc.want {
				t.Fatalf("errors.Is(%v, %v) = %v, want %v", tc.err, tc.target, got, tc.want)
			}
		})
	}
}

func TestAsError(t *testing.T) {
	if shared.AsError(nil) != nil {
		t.Fatal("nil did not stay nil")
	}
	inner := shared.NewError(shared.ReasonIntegrity, "bad bytes").WithHint("fetch again").With("peer", "x")
	for _, tc := range []struct {
		name    string
		err     error
		reason  shared.Reason
		message string
	}{
		{"typed", inner, shared.ReasonIntegrity, "bad bytes"},
		{"wrapped keeps reason, shows the whole text", fmt.Errorf("install a: %w", inner), shared.ReasonIntegrity, "install a: bad bytes"},
		{"canceled", context.Canceled, shared.ReasonCanceled, "context canceled"},
		{"deadline", fmt.Errorf("call: %w", context.DeadlineExceeded), shared.ReasonDeadlineExceeded, "call: context deadline exceeded"},
		{"anything else", io.ErrUnexpectedEOF, shared.ReasonInternal, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := shared.AsError(tc.err)
			if got.Reason != tc.reason || got.Message != tc.message {
				t.Fatalf("AsError = %s %q, want %s %q", got.Reason, got.Message, tc.reason, tc.message)
			}
			if !errors.Is(got, tc.err) && tc.reason == shared.ReasonInternal {
				t.Fatal("the cause is lost")
			}
		})
	}
	if got := shared.AsError(fmt.Errorf("install a: %w", inner)); got.Hint != "fetch again" || got.Metadata["peer"] != "x" {
		t.Fatalf("hint or metadata lost: %+v", got)
	}
}

func TestWithDoesNotShareMetadata(t *testing.T) {
	base := shared.NewError(shared.ReasonNotFound, "x").With("a", "1")
	kept := base.Metadata
	base.With("b", "2")
	if _, leaked := kept["b"]; leaked {
		t.Fatal("With changed a map that somebody else may hold")
	}
}

func TestReasonsAreUnique(t *testing.T) {
	seen := map[shared.Reason]bool{}
	for _, r := range shared.Reasons() {
		if seen[r] {
			t.Errorf("%s is listed twice", r)
		}
		seen[r] = true
	}
}
