package project

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"ggen.dev/marketplace/shared"
)

// packsTable is the table of ggen.toml in which ggen looks for packages.
const packsTable = "packs"

// maxManifest bounds ggen.toml, in bytes.
const maxManifest = 1 << 20

// errEdit is the end of every attempt to edit a ggen.toml whose shape this package
// does not know how to change without touching anything else.
var errEdit = errors.New("it keeps [packs] in a way that cannot be edited line by line")

// packPath is the value that ggen.toml gets: relative to it and with slashes, so
// that the file works on every machine.
func packPath(name string) string { return path.Join(dotDir, "packages", name) }

// Save enters packages into the [packs] table of the project's ggen.toml as
// `name = { path = ".ggen/packages/name" }` and leaves every other byte as it is.
// Doing it again changes nothing. A name that has another value there already is
// left alone and returned as kept. The caller holds [Place.Lock]. Errors:
// INVALID_ARGUMENT without a project or ggen.toml, INVALID_MANIFEST, STORAGE.
func (p Place) Save(names []string) (kept []string, err error) {
	if !p.project {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "there is no %s to save to: this is not inside a project", ManifestName).
			WithHint("go to the project's folder, or name it with --project")
	}
	root, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // the write has been synced by itself
	write, err := p.editManifest(root, func(data []byte) ([]byte, error) {
		if data == nil {
			return nil, shared.NewError(shared.ReasonInvalidArgument, "there is no %s to save to", p.Manifest()).
				WithHint("an empty file of that name is enough to begin with")
		}
		for _, name := range names {
			edited, other, err := AddPack(data, name, packPath(name))
			if err != nil {
				return nil, manifestError(p.Manifest(), err)
			}
			if other {
				kept = append(kept, name)
			}
			data = edited
		}
		return data, nil
	})
	if err != nil || write == nil {
		return kept, err
	}
	return kept, write()
}

// CheckSave tells early whether [Place.Save] could work. Its errors are Save's.
func (p Place) CheckSave() error {
	_, err := p.Save(nil)
	return err
}

// editManifest computes the new ggen.toml and returns what writes it; nil when
// there is nothing to write. edit gets nil when there is no file.
func (p Place) editManifest(root *os.Root, edit func([]byte) ([]byte, error)) (write func() error, err error) {
	if !p.project {
		return nil, nil
	}
	info, err := root.Lstat(ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := edit(nil)
		return nil, err
	}
	if err != nil {
		return nil, storageError("read "+p.Manifest(), err)
	}
	link := info.Mode()&fs.ModeSymlink != 0
	old, err := readBounded(root, ManifestName, maxManifest)
	if err != nil && link {
		old, err = []byte{}, nil // it leads out of the project: what lies there is not ours to read
	}
	if err != nil {
		return nil, err
	}
	edited, err := edit(old)
	if err != nil || bytes.Equal(old, edited) {
		return nil, err
	}
	if link {
		// Replacing it would cut the link, and writing through it might lead anywhere.
		return nil, shared.NewError(shared.ReasonInvalidManifest, "%s is a symbolic link, which ggen does not edit", p.Manifest()).
			WithHint("put the entries of [packs] in by hand")
	}
	return func() error { return replace(root, ManifestName, edited, info.Mode().Perm()) }, nil
}

func manifestError(file string, err error) error {
	if errors.Is(err, errEdit) {
		return shared.NewError(shared.ReasonInvalidManifest, "edit %s: %w", file, err).
			WithHint("put the entries of [packs] in by hand: name = { path = \"%s\" }", packPath("name")).With("file", file)
	}
	line, column, cause := tomlPosition(err)
	return shared.NewError(shared.ReasonInvalidManifest, "%s: %s", fileLine(file, line, column), cause).
		With("file", file).With("line", itoa(line)).With("column", itoa(column))
}

// AddPack returns data, the text of a ggen.toml, with the entry name = { path = … }
// in [packs]. A name that is there with another value is left alone: kept.
func AddPack(data []byte, name, path string) (edited []byte, kept bool, err error) {
	before, err := decode(data)
	if err != nil {
		return nil, false, err
	}
	if value, exists := packOf(before, name); exists {
		return data, !pointsTo(value, path), nil
	}
	entry := fmt.Sprintf("%s = { path = %q }", tomlKey(name), path)
	layout, err := layoutOf(data)
	if err != nil {
		return nil, false, err
	}
	newline := "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		newline = "\r\n"
	}
	var b bytes.Buffer
	if layout.end > 0 {
		b.Write(data[:layout.end])
		if !bytes.HasSuffix(data[:layout.end], []byte("\n")) {
			b.WriteString(newline)
		}
		b.WriteString(entry + newline)
		b.Write(data[layout.end:])
	} else {
		b.Write(data)
		if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
			b.WriteString(newline)
		}
		if len(data) > 0 {
			b.WriteString(newline)
		}
		b.WriteString("[" + packsTable + "]" + newline + entry + newline)
	}
	want := withPack(before, name, map[string]any{"path": path})
	if err := checkEdit(b.Bytes(), want); err != nil {
		return nil, false, err
	}
	return b.Bytes(), false, nil
}

// RemovePack returns data without the entry that [AddPack] makes. An entry of that
// name with another value is left alone: kept.
func RemovePack(data []byte, name, path string) (edited []byte, kept bool, err error) {
	before, err := decode(data)
	if err != nil {
		return nil, false, err
	}
	value, exists := packOf(before, name)
	if !exists {
		return data, false, nil
	}
	if !pointsTo(value, path) {
		return data, true, nil
	}
	layout, err := layoutOf(data)
	if err != nil {
		return nil, false, err
	}
	line, ok := layout.entries[name]
	if !ok {
		return data, true, nil
	}
	edited = slices.Concat(data[:line[0]], data[line[1]:])
	if err := checkEdit(edited, withPack(before, name, nil)); err != nil {
		return data, true, nil //nolint:nilerr // an entry that cannot be cut out by lines stays, and the user is told
	}
	return edited, false, nil
}

// decode gives the document's values, which an edit is checked against.
func decode(data []byte) (map[string]any, error) {
	document := map[string]any{}
	err := toml.Unmarshal(data, &document)
	return document, err
}

func packOf(document map[string]any, name string) (any, bool) {
	packs, _ := document[packsTable].(map[string]any)
	value, exists := packs[name]
	return value, exists
}

func pointsTo(value any, want string) bool {
	switch v := value.(type) {
	case string:
		return path.Clean(v) == want
	case map[string]any:
		text, _ := v["path"].(string)
		return path.Clean(text) == want
	}
	return false
}

// withPack is the document that an edit should lead to; a nil value removes.
func withPack(document map[string]any, name string, value any) map[string]any {
	document = maps.Clone(document)
	packs, _ := document[packsTable].(map[string]any)
	packs = maps.Clone(packs)
	if packs == nil {
		packs = map[string]any{}
	}
	if value == nil {
		delete(packs, name)
	} else {
		packs[name] = value
	}
	document[packsTable] = packs
	return document
}

// checkEdit is why this package may edit text: whatever the text looked like, the
// result is refused unless it means exactly what was wanted.
func checkEdit(edited []byte, want map[string]any) error {
	got, err := decode(edited)
	if err != nil || !reflect.DeepEqual(got, want) {
		return errEdit
	}
	return nil
}

// layout tells where [packs] lies in the text.
type layout struct {
	end     int               // behind its last line; 0: there is no such table
	entries map[string][2]int // the whole lines of its plain entries, by key
}

func layoutOf(data []byte) (layout, error) {
	found := layout{entries: map[string][2]int{}}
	var parser unstable.Parser
	parser.Reset(data)
	inside := false
	for parser.NextExpression() {
		expression := parser.Expression()
		var keys []string
		first, last := 0, 0
		for it := expression.Key(); it.Next(); {
			key := it.Node()
			if len(keys) == 0 {
				first = int(key.Raw.Offset)
			}
			last = int(key.Raw.Offset + key.Raw.Length)
			keys = append(keys, string(key.Data))
		}
		switch expression.Kind {
		case unstable.Table, unstable.ArrayTable:
			inside = expression.Kind == unstable.Table && len(keys) == 1 && keys[0] == packsTable
			if inside {
				found.end = lineEnd(data, last)
			}
		case unstable.KeyValue:
			if !inside {
				continue
			}
			raw := expression.Raw
			end := lineEnd(data, max(last, int(raw.Offset+raw.Length)))
			found.end = end
			if len(keys) == 1 {
				found.entries[keys[0]] = [2]int{lineStart(data, first), end}
			}
		default: // a comment belongs to what follows it
		}
	}
	return found, parser.Error()
}

func lineStart(data []byte, at int) int { return bytes.LastIndexByte(data[:at], '\n') + 1 }

func lineEnd(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(data)
}

// tomlKey quotes a package name where TOML needs it: a bare dot would split it.
func tomlKey(name string) string {
	if strings.Contains(name, ".") {
		return `"` + name + `"`
	}
	return name
}
