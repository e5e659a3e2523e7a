package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Kinds returns the kinds of packages, the usual one first. A kind is the name of
// the manifest's table, and of its file without the extension.
func Kinds() []string { return []string{"package", "gpack", "pack"} }

// skeleton is a package of one template that can be published as it is. NAME and
// KIND stand for themselves. The manifest comes last: without it there is no
// package, should the rest not be written.
var skeleton = []struct{ name, text string }{
	{"templates/hello.txt.tmpl", `---
to: hello.txt
---
{{ greeting }} from NAME!
`},
	{"README.md", `# NAME

What NAME generates, and from what.

## Use

    ggen marketplace install NAME

## Inputs

| input | default | meaning |
|---|---|---|
| greeting | Hello | how to greet |
`},
	{ignoreFile, `# What is not published; the patterns are those of .gitignore.
*~
*.log
*.swp
.DS_Store
Thumbs.db
.env
.env.*
!.env.example
/target/
node_modules/
`},
	{"KIND.toml", `[KIND]
name = "NAME"
version = "0.1.0"
description = "What NAME generates, in one sentence"
license = "MIT" # or what you choose: https://spdx.org/licenses
readme = "README.md"
tags = ["template"]
# authors = ["Your Name"]
# repository = "https://example.org/you/NAME"
# ggen = ">=6"

# Packages that this one needs:
# [KIND.dependencies]
# other-package = "^1.2"

# What the templates ask for:
[KIND.inputs.greeting]
type = "string"
default = "Hello"
description = "how to greet"
`},
}

// WriteSkeleton writes a package that can be published and installed as it is to
// dir, which must be empty or not there, and returns the files' slash-separated
// paths below dir. If it fails it takes away what it has written. Errors:
// INVALID_ARGUMENT for name, kind or a folder that is not empty, STORAGE.
func WriteSkeleton(dir, name, kind string) (files []string, err error) {
	if err := shared.CheckName(name); err != nil {
		return nil, err
	}
	if !slices.Contains(Kinds(), kind) {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%q is not a kind of package", kind).
			WithHint("kinds are %s", strings.Join(Kinds(), ", "))
	}
	failed := func(err error) error {
		return shared.NewError(shared.ReasonStorage, "write a package to %s: %w", dir, cause(err)).With("path", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, failed(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failed(err)
	}
	defer func() { _ = root.Close() }() // all files in it are closed, and synced
	if err := checkEmpty(dir, root); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			removeAll(root, files)
			files = nil
		}
	}()
	fill := strings.NewReplacer("NAME", name, "KIND", kind)
	for _, f := range skeleton {
		file := fill.Replace(f.name)
		if err := writeNew(root, file, fill.Replace(f.text)); err != nil {
			return files, failed(err)
		}
		files = append(files, file)
	}
	slices.Sort(files)
	return files, nil
}

func checkEmpty(dir string, root *os.Root) error {
	top, err := root.Open(".")
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "read %s: %w", dir, cause(err)).With("path", dir)
	}
	defer func() { _ = top.Close() }() // only read
	found, err := top.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return shared.NewError(shared.ReasonStorage, "read %s: %w", dir, cause(err)).With("path", dir)
	}
	if len(found) > 0 {
		return shared.NewError(shared.ReasonInvalidArgument, "the folder %s is not empty: it holds %s", dir, found[0]).
			WithHint("choose another folder with --dir, or write the manifest yourself: docs/PACKAGE.md describes it").With("path", dir)
	}
	return nil
}

// writeNew writes a file that is not there yet, with its folders. Nobody can see
// half of a file that a manifest speaks of: the manifest is written last.
func writeNew(root *os.Root, name, text string) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), root.Remove(name))
	}
	return nil
}

// removeAll takes files away, and the folders that are empty then.
func removeAll(root *os.Root, files []string) {
	for _, name := range files {
		for ; name != "."; name = path.Dir(name) {
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				break // not empty, or not to be removed: the first error says more
			}
		}
	}
}
