//go:build linux

package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/shared"
)

// smallDisk is a file system of one megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("ggen-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small disk needs the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestAFullDisk(t *testing.T) {
	isFull := func(t *testing.T, err error, where string) {
		t.Helper()
		if !errors.Is(err, shared.ReasonStorageFull) || shared.AsError(err).Metadata["path"] != where || !strings.Contains(err.Error(), where) {
			t.Fatalf("got %v, %v", err, shared.AsError(err).Metadata)
		}
	}
	upload := func() []item { return []item{file("a", "x"), file("large", strings.Repeat("x", 900<<10))} }
	t.Run("while the upload arrives", func(t *testing.T) {
		disk := smallDisk(t)
		_, err := archive.Pack(t.Context(), stream(t, file("large", strings.Repeat("x", 2<<20))), disk, archive.Limits{}, nil)
		isFull(t, err, disk)
		isEmpty(t, disk)
	})
	t.Run("while the archive is written", func(t *testing.T) {
		disk := smallDisk(t)
		_, err := archive.Pack(t.Context(), stream(t, upload()...), disk, archive.Limits{}, nil)
		isFull(t, err, disk)
		isEmpty(t, disk)
	})
	t.Run("while a package is replaced", func(t *testing.T) {
		disk := smallDisk(t)
		dest := filepath.Join(disk, "pkg")
		small, large := pack(t, file("a", "old")), pack(t, file("large", strings.Repeat("x", 2<<20)))
		if err := archive.Unpack(t.Context(), open(t, small), small.Index, dest); err != nil {
			t.Fatal(err)
		}
		isFull(t, archive.Unpack(t.Context(), bytes.NewReader(content(t, large)), large.Index, dest), disk)
		if digest, err := archive.DigestDir(t.Context(), dest); err != nil || digest != small.Index.Digest {
			t.Fatalf("the package is %s, %v", digest, err)
		}
		if left, err := os.ReadDir(disk); err != nil || len(left) != 1 {
			t.Fatalf("beside it lies %v, %v", left, err)
		}
	})
}

// TestAFileThatGrows uses the kernel's files, which have no size and some content.
func TestAFileThatGrows(t *testing.T) {
	const dir = "/proc/sys/kernel/random"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("there is no %s: %v", dir, err)
	}
	if _, err := archive.DigestDir(t.Context(), dir); !errors.Is(err, shared.ReasonInvalidPackage) || !strings.Contains(err.Error(), "changed while it was read") {
		t.Fatalf("got %v", err)
	}
}
