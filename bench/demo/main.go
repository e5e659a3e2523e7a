// Command demo shows the marketplace at work: three peers on this machine, each
// with a home of its own, publish, search, install, lose a peer and survive a
// kill, all through the `ggen` command that users have. It exits non-zero as
// soon as something does not happen as it should, and leaves no process behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	bin := flag.String("bin", "bin", "folder with ggen and the engine plugin")
	packages := flag.String("packages", "", "folder of packages to publish (default: ../shared/packages if it exists, else the packages beside this program)")
	keep := flag.Bool("keep", false, "keep the temporary folder for a look afterwards")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *packages, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo failed:", err)
		stop()
		os.Exit(1)
	}
}

// run prepares the folder, plays the story and cleans up whatever happened.
func run(ctx context.Context, bin, packages string, keep bool) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	packages, err = choosePackages(packages)
	if err != nil {
		return err
	}
	// The system's own temporary folder may have a long path, and the engines'
	// sockets live below it: a short prefix keeps them under the 100-byte limit.
	dir, err := os.MkdirTemp("", "ggen")
	if err != nil {
		return err
	}
	s := &story{ctx: ctx, ggen: filepath.Join(bin, "ggen"), dir: dir, packages: packages}
	defer func() {
		err = errors.Join(err, s.cleanUp(ctx))
		if keep {
			fmt.Println("\nkept:", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	return s.play()
}

// choosePackages prefers the collection of real packages beside the checkout.
func choosePackages(given string) (string, error) {
	candidates := []string{given}
	if given == "" {
		candidates = []string{filepath.Join("..", "shared", "packages"), filepath.Join("bench", "demo", "packages")}
	}
	for _, dir := range candidates {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("no packages in %v", candidates)
}
