package main

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/folder"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) publishCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "publish", Usage: "sign a package folder and announce it", ArgsUsage: "[DIR]",
		Description: `DIR (default: the working folder) holds package.toml, gpack.toml or pack.toml.
A version, once published, never changes; publishing the same content again is
no error.`,
		UsageText: `ggen marketplace publish --dry-run
ggen marketplace publish ./my-package --wait`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "check the package and list its files; sign and announce nothing"},
			&cli.BoolFlag{Name: "wait", Usage: "wait until the records are in the DHT as well"},
		},
	}, arity{0, 1}, publish)
}

func publish(ctx context.Context, v *invocation) error {
	dir := "."
	if len(v.args) > 0 {
		dir = v.args[0]
	}
	if dir == "" {
		return usage("the folder to publish is empty text")
	}
	tree, err := folder.Open(v.absolute(dir))
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }() // only read
	req := shared.PublishRequest{RequestID: rand.Text(), DryRun: v.flags.Bool("dry-run"), Wait: v.flags.Bool("wait")}
	return v.withEngine(ctx, func(s session) error {
		progress := v.NewProgress()
		defer progress.Close()
		receipt, err := upload(ctx, s, req, tree, progress.Report)
		progress.Close()
		if err != nil {
			return err
		}
		v.Remarks(receipt.Diagnostics)
		return v.Print(render.NewPublish(receipt, req.Wait))
	})
}

// upload sends the folder. That it could not be read is the better explanation
// when the engine fails too.
func upload(ctx context.Context, s session, req shared.PublishRequest, dir *folder.Folder, report shared.ProgressFunc) (shared.PublishReceipt, error) {
	tree := dir.Tar(ctx)
	receipt, err := s.Publish(ctx, req, tree, report)
	readErr := tree.Close()
	if err == nil || errors.Is(readErr, shared.ReasonInvalidPackage) {
		return receipt, readErr
	}
	return receipt, err
}
