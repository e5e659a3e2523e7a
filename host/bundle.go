package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// vendorName is the bundle in a project that install takes packages from.
const vendorName = "ggen.vendor"

func (p *program) exportCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "export", Usage: "write packages into a file, for a machine without a network", ArgsUsage: "FILE [REF...]",
		Description: refHelp + `

FILE holds the packages, what they depend on, and the whole logs of their
publishers with their signatures. Without REF it is everything in ggen.lock.`,
		UsageText: `ggen marketplace export packages.bundle
ggen marketplace export greeting.bundle greeting-service@^1`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "offline", Usage: "use only what this peer holds"}},
	}, arity{1, many}, export)
}

func (p *program) importCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "import", Usage: "take over packages from a file that export wrote", ArgsUsage: "FILE",
		Description: `Everything is verified as if it came from a stranger's peer. Then install finds it
here, also with --offline. Nobody becomes trusted by it.`,
	}, arity{1, 1}, importBundle)
}

func (p *program) vendorCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "vendor", Usage: "keep the packages of ggen.lock beside it, in " + vendorName,
		Description: `The file can be committed: install without REF takes packages from it, and needs
no network then. Run it again when ggen.lock has changed.`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "offline", Usage: "use only what this peer holds"}},
	}, arity{0, 0}, vendor)
}

func export(ctx context.Context, v *invocation) error {
	if v.args[0] == "" {
		return usage("the file to write is empty text")
	}
	refs, err := parseRefs(v.args[1:])
	if err != nil {
		return err
	}
	return v.export(ctx, v.absolute(v.args[0]), refs)
}

func vendor(ctx context.Context, v *invocation) error {
	if !v.place.IsProject() {
		return usage("this is not inside a project: there is no %s above it", "ggen.toml").WithHint("use `ggen marketplace export FILE` elsewhere")
	}
	return v.export(ctx, v.vendorFile(), nil)
}

func (v *invocation) vendorFile() string { return filepath.Join(v.place.Root(), vendorName) }

func (v *invocation) export(ctx context.Context, file string, refs []shared.Ref) error {
	lock, err := v.place.ReadLockfile()
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		if refs, err = lockedRefs(v.place, lock); err != nil {
			return err
		}
	}
	return v.withEngine(ctx, func(s session) error {
		progress := v.NewProgress()
		defer progress.Close()
		receipt, err := s.Export(ctx, shared.ExportRequest{File: file, Packages: refs, Locked: lock.Packages, Offline: v.flags.Bool("offline")}, progress.Report)
		progress.Close()
		v.showCandidates(ctx, s, err)
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewExport(receipt, file))
	})
}

func importBundle(ctx context.Context, v *invocation) error {
	if v.args[0] == "" {
		return usage("the file to read is empty text")
	}
	return v.withEngine(ctx, func(s session) error {
		receipt, err := v.importInto(ctx, s, v.absolute(v.args[0]))
		if err != nil {
			return err
		}
		return v.Print(render.NewImport(receipt))
	})
}

func (v *invocation) importInto(ctx context.Context, s session, file string) (shared.ImportReceipt, error) {
	progress := v.NewProgress()
	defer progress.Close()
	return s.Import(ctx, file, progress.Report)
}

// takeVendored imports the bundle of the project, if it has one.
func (v *invocation) takeVendored(ctx context.Context, s session) error {
	if !v.place.IsProject() {
		return nil
	}
	if _, err := os.Lstat(v.vendorFile()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := v.importInto(ctx, s, v.vendorFile())
	return err
}
