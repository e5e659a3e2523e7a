package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) catalogueCommand() *cli.Command {
	return &cli.Command{
		Name: "catalogue", Usage: "signed lists that say which publisher a name means",
		Subcommands: []*cli.Command{
			p.leaf(&cli.Command{Name: "list", Usage: "list the catalogues that are followed; --verbose shows their names"}, arity{0, 0}, catalogueList),
			p.leaf(&cli.Command{
				Name: "add", Usage: "follow a catalogue, or take a newer issue of it", ArgsUsage: "FILE",
				Description: `The names that it lists are accepted from the publishers that it says, and from
nobody else, unless they are pinned. An older issue than the one that is here is
refused.`,
				Flags: []cli.Flag{&cli.StringFlag{Name: "signer", Usage: "refuse the file unless publisher `ID` has signed it"}},
			}, arity{1, 1}, catalogueAdd),
			p.leaf(&cli.Command{Name: "remove", Usage: "do not follow a catalogue any more; pins stay", ArgsUsage: "SIGNER TITLE"}, arity{2, 2}, catalogueRemove),
			p.leaf(&cli.Command{
				Name: "sign", Usage: "sign a list as this machine's publisher, for others to follow", ArgsUsage: "LIST",
				Description: `LIST is a TOML file:

  title = "Platform team"
  serial = 1               # raise it with every issue

  [names]
  http-client = "PUBLISHER" # whole IDs`,
				Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "write the catalogue to `FILE` (default: LIST with the ending .json)"}},
			}, arity{1, 1}, catalogueSign),
		},
	}
}

func catalogueList(ctx context.Context, v *invocation) error {
	return v.withEngine(ctx, func(s session) error {
		list, err := s.TrustCatalogues(ctx)
		if err != nil {
			return err
		}
		return v.Print(render.NewTrustCatalogues(list))
	})
}

func catalogueAdd(ctx context.Context, v *invocation) error {
	signer, err := shared.ParsePublisherID(v.flags.String("signer"))
	if v.flags.IsSet("signer") && err != nil {
		return err
	}
	data, err := readBounded(v.absolute(v.args[0]), shared.MaxTrustCatalogue)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		added, err := addCatalogue(ctx, s, data, signer)
		if err != nil {
			return err
		}
		return v.Print(render.ChangedCatalogue{TrustCatalogue: render.NewTrustCatalogue(added), Followed: true})
	})
}

// addCatalogue takes a catalogue back out if it turns out to be somebody else's.
func addCatalogue(ctx context.Context, s session, data []byte, signer shared.PublisherID) (shared.TrustCatalogue, error) {
	added, err := s.AddTrustCatalogue(ctx, data)
	if err != nil || signer == "" || bytes.HasPrefix([]byte(added.Signer), []byte(signer)) {
		return added, err
	}
	err = shared.NewError(shared.ReasonUntrusted, "the catalogue %q is signed by %s, and not by %s", added.Title, added.Signer, signer)
	if _, undoErr := s.RemoveTrustCatalogue(ctx, added.Signer, added.Title); undoErr != nil {
		return added, errors.Join(err, undoErr)
	}
	return added, err
}

func catalogueRemove(ctx context.Context, v *invocation) error {
	signer, err := shared.ParsePublisherID(v.args[0])
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		removed, err := s.RemoveTrustCatalogue(ctx, signer, v.args[1])
		if err != nil {
			return err
		}
		return v.Print(render.ChangedCatalogue{TrustCatalogue: render.NewTrustCatalogue(removed)})
	})
}

func catalogueSign(ctx context.Context, v *invocation) error {
	list := v.absolute(v.args[0])
	draft, err := readNames(list)
	if err != nil {
		return err
	}
	out := list[:len(list)-len(filepath.Ext(list))] + ".json"
	if v.flags.IsSet("out") {
		out = v.absolute(v.flags.String("out"))
	}
	return v.withEngine(ctx, func(s session) error {
		signed, err := s.SignTrustCatalogue(ctx, draft)
		if err != nil {
			return err
		}
		if err := project.WriteFile(out, signed); err != nil {
			return err
		}
		status, err := s.Status(ctx)
		if err != nil {
			return err
		}
		draft.Signer = status.Publisher
		return v.Print(render.SignedCatalogue{TrustCatalogue: render.NewTrustCatalogue(draft), File: out})
	})
}

// readNames reads the list that is to be signed. It is strict: what is written there
// and not understood would be missing in what others get.
func readNames(file string) (shared.TrustCatalogue, error) {
	data, err := readBounded(file, shared.MaxTrustCatalogue)
	if err != nil {
		return shared.TrustCatalogue{}, err
	}
	var list struct {
		Title  string            `toml:"title"`
		Serial int64             `toml:"serial"`
		Names  map[string]string `toml:"names"`
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&list); err != nil {
		return shared.TrustCatalogue{}, shared.NewError(shared.ReasonInvalidArgument, "read the list %s: %w", file, err).
			WithHint("it has title, serial and a table [names] of name = \"PUBLISHER\"; see `trust catalogue sign --help`")
	}
	draft := shared.TrustCatalogue{Title: list.Title, Serial: list.Serial}
	for name, publisher := range list.Names {
		draft.Names = append(draft.Names, shared.CatalogueName{Name: name, Publisher: shared.PublisherID(publisher)})
	}
	return draft, nil
}

// readBounded reads a file that the user names. Errors: INVALID_ARGUMENT, also if it
// is longer than most bytes.
func readBounded(file string, most int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, shared.NewError(shared.ReasonStorage, "read %s: %w", file, err)
	case int64(len(data)) > most:
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%s has more than %d bytes", file, most)
	}
	return data, nil
}

func trustWhy(ctx context.Context, v *invocation) error {
	if err := shared.CheckName(v.args[0]); err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		report, err := s.Explain(ctx, v.args[0])
		if err != nil {
			return err
		}
		return v.Print(render.NewTrustReport(report))
	})
}

// maxProof bounds the file of a proof, in bytes; the engine has its own limit.
const maxProof = 1 << 20

func trustProof(ctx context.Context, v *invocation) error {
	check := v.flags.IsSet("check")
	if check == (len(v.args) == 1) || check && v.flags.IsSet("out") {
		return usage("name a publisher to write a proof, or --check FILE to check one")
	}
	if check {
		return v.checkProof(ctx)
	}
	id, err := shared.ParsePublisherID(v.args[0])
	if err != nil {
		return err
	}
	out := v.absolute(fmt.Sprintf("fork-%s.json", id.Short()))
	if v.flags.IsSet("out") {
		out = v.absolute(v.flags.String("out"))
	}
	return v.withEngine(ctx, func(s session) error {
		proof, err := s.ForkProof(ctx, id)
		if err != nil {
			return err
		}
		verdict, err := s.CheckForkProof(ctx, proof)
		if err != nil {
			return err
		}
		if err := project.WriteFile(out, proof); err != nil {
			return err
		}
		return v.Print(render.NewForkProof(verdict, out))
	})
}

func (v *invocation) checkProof(ctx context.Context) error {
	proof, err := readBounded(v.absolute(v.flags.String("check")), maxProof)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		verdict, err := s.CheckForkProof(ctx, proof)
		if err != nil {
			return err
		}
		return v.Print(render.NewForkProof(verdict, ""))
	})
}
