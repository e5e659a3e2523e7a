package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// Flags that several of the key commands have.
func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase from the first line of `FILE` (default: " + launch.PassphraseVariable + ", or ask in a terminal)"}
}

func keyFlags(recovery string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "add", Usage: "make `N` further keys"},
		&cli.StringSliceFlag{Name: "include", Usage: "list the `PUBLIC` key of a key that is kept elsewhere"},
		&cli.IntFlag{Name: "threshold", Usage: "let `N` of the keys have to sign, all of which must be here then"},
		&cli.StringFlag{Name: "recovery-file", Usage: recovery},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would be, and change nothing"},
		passphraseFlag(),
	}
}

func (p *program) keyCommand() *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "the keys that sign what is published from this machine",
		Subcommands: []*cli.Command{
			p.leaf(&cli.Command{
				Name: "show", Usage: "show the publisher of this machine and its keys",
			}, arity{0, 0}, keyShow),
			p.leaf(&cli.Command{
				Name: "init", Usage: "begin a publisher, with a recovery key or several keys",
				Description: `Nobody has to: the first publish makes a publisher of one key. But only a publisher
with a recovery key can be taken back from whoever steals its key, so make one before
you publish what others rely on. The recovery key is written to a file, encrypted,
and is kept nowhere else: take the file away from this machine.`,
				UsageText: `ggen marketplace key init --recovery-file recovery.key`,
				Flags:     keyFlags("make a recovery key and write it to `FILE`"),
			}, arity{0, 0}, keyInit),
			p.leaf(&cli.Command{
				Name: "make", Usage: "make a key that is kept in an encrypted file alone", ArgsUsage: "FILE",
				Description: `Its public half is printed, for --include.`,
				Flags:       []cli.Flag{passphraseFlag()},
			}, arity{1, 1}, keyMake),
			p.leaf(&cli.Command{
				Name: "export", Usage: "write a key to an encrypted file, for a backup or another machine", ArgsUsage: "[FINGERPRINT]",
				Description: `The file is age's (age-encryption.org): with the passphrase, the program age opens
it too. It brings the publisher's root documents along.`,
				Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "write to `FILE` (default: publisher-FINGERPRINT.key)"}, passphraseFlag()},
			}, arity{0, 1}, keyExport),
			p.leaf(&cli.Command{
				Name: "import", Usage: "take keys from encrypted files", ArgsUsage: "FILE...",
				Description: `On a machine that has published nothing, their publisher becomes the machine's own.`,
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "check the files, and change nothing"}, passphraseFlag()},
			}, arity{1, many}, keyImport),
			p.leaf(&cli.Command{
				Name: "rotate", Usage: "sign with other keys from now on",
				Description: `Without flags every key is replaced by a new one. What the old keys have signed
stays valid; they sign nothing new. The publisher's ID stays the same, and so does
everybody's trust in it.`,
				UsageText: `ggen marketplace key rotate
ggen marketplace key rotate --recovery-file recovery.key
ggen marketplace key rotate --add 1 --threshold 2`,
				Flags: append(keyFlags("make a new recovery key and write it to `FILE`"),
					&cli.StringSliceFlag{Name: "drop", Usage: "list the key with this `FINGERPRINT` no more"},
					&cli.BoolFlag{Name: "no-recovery", Usage: "have no recovery key any more"}),
			}, arity{0, 0}, keyRotate),
			p.leaf(&cli.Command{
				Name: "recover", Usage: "take a publisher back with its recovery key", ArgsUsage: "RECOVERY-FILE",
				Description: `All keys are replaced by a new one, whatever somebody has changed with the stolen
ones. With --keep, all that was signed after that many entries of the log becomes
void: it disappears from every peer. --dry-run lists what would. On a machine that has
published nothing, --publisher says whom to take back.`,
				UsageText: `ggen marketplace key recover recovery.key --keep 12 --dry-run`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "publisher", Usage: "take back the publisher with this `ID` (default: this machine's)"},
					&cli.Int64Flag{Name: "keep", Usage: "let the first `N` entries of the log stand (default: all that are here)"},
					&cli.IntFlag{Name: "add", Usage: "make `N` new keys", Value: 1},
					&cli.IntFlag{Name: "threshold", Usage: "let `N` of them have to sign"},
					&cli.BoolFlag{Name: "dry-run", Usage: "show what would be, and change nothing"},
					passphraseFlag(),
				},
			}, arity{1, 1}, keyRecover),
		},
	}
}

func keyShow(ctx context.Context, v *invocation) error {
	return v.withEngine(ctx, func(s session) error {
		keys, err := s.PublisherKeys(ctx)
		if err != nil {
			return err
		}
		return v.Print(render.NewKeys(keys))
	})
}

func keyInit(ctx context.Context, v *invocation) error {
	return v.changeKeys(ctx, v.keyChange(shared.KeyInit))
}

func keyRotate(ctx context.Context, v *invocation) error {
	change := v.keyChange(shared.KeyRotate)
	change.Drop = v.flags.StringSlice("drop")
	if v.flags.Bool("no-recovery") {
		if v.flags.IsSet("recovery-file") {
			return usage("--no-recovery and --recovery-file exclude each other")
		}
		change.Recovery = "-"
	}
	return v.changeKeys(ctx, change)
}

func (v *invocation) keyChange(action shared.KeyAction) shared.KeyChange {
	return shared.KeyChange{
		Action: action, Add: v.flags.Int("add"), Include: v.flags.StringSlice("include"), Threshold: v.flags.Int("threshold"),
		DryRun: v.flags.Bool("dry-run"), Keep: -1,
	}
}

// changeKeys makes a change, and a recovery key with it if one is asked for: its file
// is complete before any document names it.
func (v *invocation) changeKeys(ctx context.Context, change shared.KeyChange) error {
	if change.Add < 0 || change.Threshold < 0 {
		return usage("--add and --threshold are not negative")
	}
	file := v.flags.String("recovery-file")
	if file == "" {
		return v.withEngine(ctx, func(s session) error { return v.applyKeys(ctx, s, change, "") })
	}
	file = v.absolute(file)
	passphrase, err := v.passphrase(ctx, "passphrase for the recovery key", true)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		key, err := s.MakeKey(ctx, passphrase)
		if err != nil {
			return err
		}
		change.Recovery = key.Public
		if change.DryRun {
			return v.applyKeys(ctx, s, change, "")
		}
		trial := change
		trial.DryRun = true
		if _, err := s.ChangeKeys(ctx, trial); err != nil {
			return err
		}
		if err := project.WriteSecret(file, key.Sealed); err != nil {
			return err
		}
		return v.applyKeys(ctx, s, change, file)
	})
}

func (v *invocation) applyKeys(ctx context.Context, s session, change shared.KeyChange, recoveryFile string) error {
	receipt, err := s.ChangeKeys(ctx, change)
	if err != nil {
		return err
	}
	v.Remarks(receipt.Diagnostics)
	return v.Print(render.NewChangedKeys(change, receipt, recoveryFile))
}

func keyMake(ctx context.Context, v *invocation) error {
	passphrase, err := v.passphrase(ctx, "passphrase for the key", true)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		key, err := s.MakeKey(ctx, passphrase)
		if err != nil {
			return err
		}
		file := v.absolute(v.args[0])
		if err := project.WriteSecret(file, key.Sealed); err != nil {
			return err
		}
		return v.Print(render.NewSealedKey(key, file))
	})
}

func keyExport(ctx context.Context, v *invocation) error {
	passphrase, err := v.passphrase(ctx, "passphrase for the exported key", true)
	if err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error {
		fingerprint := ""
		if len(v.args) == 1 {
			fingerprint = v.args[0]
		}
		key, err := s.ExportKey(ctx, fingerprint, passphrase)
		if err != nil {
			return err
		}
		file := v.absolute("publisher-" + key.Fingerprint + ".key")
		if v.flags.IsSet("out") {
			file = v.absolute(v.flags.String("out"))
		}
		if err := project.WriteSecret(file, key.Sealed); err != nil {
			return err
		}
		return v.Print(render.NewSealedKey(key, file))
	})
}

func keyImport(ctx context.Context, v *invocation) error {
	change := shared.KeyChange{Action: shared.KeyImport, DryRun: v.flags.Bool("dry-run")}
	for _, name := range v.args {
		data, err := readBounded(v.absolute(name), shared.MaxSealedKey)
		if err != nil {
			return err
		}
		change.Sealed = append(change.Sealed, data)
	}
	return v.unsealing(ctx, change)
}

func keyRecover(ctx context.Context, v *invocation) error {
	change := v.keyChange(shared.KeyRecover)
	if v.flags.IsSet("keep") {
		if change.Keep = v.flags.Int64("keep"); change.Keep < 0 {
			return usage("--keep %d is negative", change.Keep)
		}
	}
	if v.flags.IsSet("publisher") {
		id, err := shared.ParsePublisherID(v.flags.String("publisher"))
		if err != nil {
			return err
		}
		change.Publisher = id
	}
	data, err := readBounded(v.absolute(v.args[0]), shared.MaxSealedKey)
	if err != nil {
		return err
	}
	change.Sealed = [][]byte{data}
	return v.unsealing(ctx, change)
}

// unsealing makes a change that begins with opening a file.
func (v *invocation) unsealing(ctx context.Context, change shared.KeyChange) (err error) {
	if change.Passphrase, err = v.passphrase(ctx, "passphrase of the file", false); err != nil {
		return err
	}
	return v.withEngine(ctx, func(s session) error { return v.applyKeys(ctx, s, change, "") })
}

// maxPassphrase bounds the file of a passphrase in bytes.
const maxPassphrase = 4 << 10

// passphrase reads a passphrase: from the file that the user names, from the
// environment, or from a terminal, there twice if it is a new one. Never from an
// argument, which everybody on the machine can read.
func (v *invocation) passphrase(ctx context.Context, what string, fresh bool) (string, error) {
	if v.flags.IsSet("passphrase-file") {
		name := v.flags.String("passphrase-file")
		data, err := readBounded(v.absolute(name), maxPassphrase)
		if err != nil {
			return "", err
		}
		return firstLine(string(data)), nil
	}
	if given := v.env(launch.PassphraseVariable); given != "" {
		return given, nil
	}
	if !v.stdinTerminal || !v.stderrTerminal || v.JSON {
		return "", usage("there is nobody to ask for the %s: use --passphrase-file or %s", what, launch.PassphraseVariable)
	}
	first, err := v.readPassphrase(ctx, "Enter the "+what+": ")
	if err != nil || !fresh {
		return first, err
	}
	second, err := v.readPassphrase(ctx, "Once more: ")
	if err == nil && first != second {
		return "", shared.NewError(shared.ReasonInvalidArgument, "the two passphrases differ")
	}
	return first, err
}

func (v *invocation) readPassphrase(ctx context.Context, prompt string) (string, error) {
	if _, err := fmt.Fprint(v.Err, prompt); err != nil {
		return "", err
	}
	defer func() { _, _ = fmt.Fprintln(v.Err) }() // the user's own line break was not shown
	return v.password(ctx)
}

func firstLine(text string) string {
	for i, r := range text {
		if r == '\n' || r == '\r' {
			return text[:i]
		}
	}
	return text
}
