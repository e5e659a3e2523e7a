package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"ggen.dev/marketplace/host/folder"
	"ggen.dev/marketplace/shared"
)

// publishOnly is a session that publishes as the test wants.
type publishOnly struct {
	session
	do func(tree io.Reader) error
}

func (p publishOnly) Publish(_ context.Context, _ shared.PublishRequest, tree io.Reader, _ shared.ProgressFunc) (shared.PublishReceipt, error) {
	return shared.PublishReceipt{Package: "tool"}, p.do(tree)
}

func TestUpload(t *testing.T) {
	defer goleak.VerifyNone(t)
	readAll := func(tree io.Reader) error {
		_, err := io.Copy(io.Discard, tree)
		return err
	}
	for _, tc := range []struct {
		name   string
		socket bool // makes the folder unfit
		do     func(tree io.Reader) error
		want   shared.Reason
	}{
		{"the engine takes it", false, readAll, ""},
		{"the engine knows it without reading", false, func(io.Reader) error { return nil }, ""},
		{"the engine refuses after a part", false, func(tree io.Reader) error {
			_, err := io.CopyN(io.Discard, tree, 10)
			return errors.Join(shared.NewError(shared.ReasonLimitExceeded, "too large"), err)
		}, shared.ReasonLimitExceeded},
		{"the folder cannot be read, and the engine knows only that it broke off", true, func(tree io.Reader) error {
			if err := readAll(tree); err == nil {
				t.Error("the engine got the end of a tar that is not whole")
			}
			return shared.NewError(shared.ReasonInternal, "unexpected EOF")
		}, shared.ReasonInvalidPackage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.socket {
				listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
				if err != nil {
					t.Skip(err)
				}
				defer func() { _ = listener.Close() }()
			}
			tree, err := folder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tree.Close() }()
			_, err = upload(t.Context(), publishOnly{do: tc.do}, shared.PublishRequest{}, tree, nil)
			if tc.want == "" && err != nil || tc.want != "" && !errors.Is(err, tc.want) {
				t.Fatalf("err = %v, want %s", err, tc.want)
			}
		})
	}
}
