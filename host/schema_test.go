package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	generate "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// schemaFolder is where the schemas of our documents are, for other programs.
var schemaFolder = filepath.Join("..", "docs", "schemas")

// documents are the results of the commands, by the command behind `marketplace`,
// and the one of failures.
var documents = map[string]any{
	"search": render.Search{}, "watch": render.Event{}, "info": render.Info{}, "install": render.Install{}, "list": render.List{}, "remove": render.Remove{},
	"verify": render.Verify{}, "publish": render.Publish{}, "yank": render.Declared{}, "deprecate": render.Declared{},
	"tree": render.Tree{}, "why": render.Why{}, "outdated": render.Outdated{}, "update": render.Update{},
	"export": render.Export{}, "import": render.Import{}, "vendor": render.Export{}, "sbom": render.SBOM{}, "info --proof": render.Provenance{},
	"package new": render.NewPackage{}, "package lint": render.Lint{},
	"key show": render.Keys{}, "key init": render.ChangedKeys{}, "key rotate": render.ChangedKeys{}, "key import": render.ChangedKeys{},
	"key recover": render.ChangedKeys{}, "key make": render.SealedKey{}, "key export": render.SealedKey{},
	"cache stats": render.CacheStats{}, "cache clean": render.Cleaned{}, "cache verify": render.CacheReport{},
	"cache pin": render.PinnedContent{}, "cache unpin": render.PinnedContent{},
	"trust list": render.Pins{}, "trust pin": render.Repinned{}, "trust unpin": render.Repinned{},
	"trust why": render.TrustReport{}, "trust proof": render.ForkProof{}, "trust catalogue list": render.TrustCatalogues{},
	"trust catalogue add": render.ChangedCatalogue{}, "trust catalogue remove": render.ChangedCatalogue{}, "trust catalogue sign": render.SignedCatalogue{},
	"p2p start": render.Started{}, "p2p stop": render.Stopped{}, "p2p status": render.Status{},
	"p2p peer-list": render.Peers{}, "p2p peer-info": render.Peer{}, "p2p bootstrap": render.Bootstrap{},
	"plugin list": render.Plugins{}, "plugin verify": render.PluginVerify{}, "plugin install": render.InstalledPlugin{},
	"plugin use": render.UsedPlugin{}, "plugin rollback": render.UsedPlugin{}, "plugin pin": render.PinnedPlugin{}, "plugin remove": render.RemovedPlugin{},
	"completion": render.Script{}, "version": render.About{},
	"error": render.Failure{},
}

const schemaBase = "https://ggen.dev/schemas/marketplace/v1/"

func schemaName(command string) string {
	return strings.NewReplacer(" --", "-", " ", "-").Replace(command) + ".json"
}

// TestSchemas compares the committed schemas with those of the documents' types,
// comments included; -update writes them.
func TestSchemas(t *testing.T) {
	reflector := &generate.Reflector{DoNotReference: true, AllowAdditionalProperties: true, Mapper: formats}
	if err := reflector.AddGoComments("ggen.dev/marketplace/host/render", "render", generate.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	// The package's folder is not its path below this one.
	comments := map[string]string{}
	for name, text := range reflector.CommentMap {
		comments[strings.Replace(name, "/render/render.", "/render.", 1)] = text
	}
	reflector.CommentMap = comments
	var names []string
	for command, document := range documents {
		schema := reflector.Reflect(document)
		schema.ID = generate.ID(schemaBase + schemaName(command))
		want, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		file := filepath.Join(schemaFolder, schemaName(command))
		names = append(names, filepath.Base(file))
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run `go generate ./host` (%v)", file, err)
		}
		if fields := undocumented(schema, ""); len(fields) > 0 {
			t.Errorf("%s: no comment says what these are: %v", file, fields)
		}
	}
	committed, err := filepath.Glob(filepath.Join(schemaFolder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range committed {
		if !slices.Contains(names, filepath.Base(file)) {
			t.Errorf("%s belongs to no document", file)
		}
	}
}

// formats are the forms of what is a type of its own: times may be unknown, and so
// may digests and publishers.
func formats(t reflect.Type) *generate.Schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &generate.Schema{OneOf: []*generate.Schema{{Type: "string", Format: "date-time"}, {Type: "null"}}}
	case reflect.TypeFor[shared.Digest]():
		return &generate.Schema{Type: "string", Pattern: "^(sha256:[0-9a-f]{64})?$"}
	case reflect.TypeFor[shared.PublisherID]():
		return &generate.Schema{Type: "string", Pattern: "^([0-9a-f]{64})?$"}
	case reflect.TypeFor[shared.Reason]():
		return &generate.Schema{Type: "string", Pattern: "^[A-Z][A-Z0-9_]*$"}
	}
	return nil
}

func undocumented(schema *generate.Schema, path string) (fields []string) {
	if schema.Items != nil {
		fields = undocumented(schema.Items, path+"[]")
	}
	if schema.Properties == nil {
		return fields
	}
	for pair := schema.Properties.Oldest(); pair != nil; pair = pair.Next() {
		if pair.Value.Description == "" {
			fields = append(fields, path+"."+pair.Key)
		}
		fields = append(fields, undocumented(pair.Value, path+"."+pair.Key)...)
	}
	return fields
}

// TestEveryCommandHasASchema, because every command takes --json.
func TestEveryCommandHasASchema(t *testing.T) {
	var walk func(trail string, commands []*cli.Command)
	walk = func(trail string, commands []*cli.Command) {
		for _, command := range commands {
			name := strings.TrimSpace(trail + " " + command.Name)
			if len(command.Subcommands) > 0 {
				walk(name, command.Subcommands)
			} else if documents[name] == nil {
				t.Errorf("`%s --json` prints a document without a schema", name)
			}
		}
	}
	p := testProgram()
	p.args = []string{directName}
	walk("", p.app().Commands)
}

// compileSchemas reads the committed schemas. Strict ones take no further fields:
// with them a field that is not documented is noticed.
func compileSchemas(t *testing.T, strict bool) map[string]*jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled := map[string]*jsonschema.Schema{}
	for command := range documents {
		text, err := os.ReadFile(filepath.Join(schemaFolder, schemaName(command)))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if strict {
			forbidMore(schema)
		}
		if err := compiler.AddResource(schemaBase+schemaName(command), schema); err != nil {
			t.Fatal(err)
		}
	}
	for command := range documents {
		schema, err := compiler.Compile(schemaBase + schemaName(command))
		if err != nil {
			t.Fatalf("%s is no schema: %v", schemaName(command), err)
		}
		compiled[command] = schema
	}
	return compiled
}

// forbidMore makes every object of a schema refuse what it does not name.
func forbidMore(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, isObject := s["properties"]; isObject {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			forbidMore(inner)
		}
	case []any:
		for _, inner := range s {
			forbidMore(inner)
		}
	}
}

// conversation is a command line of a story in which every command has a result,
// and the schema of what it prints.
type conversation struct{ line, schema string }

// TestDocumentsFollowTheirSchemas has every command print its document, and some
// fail, and compares; and it sees that a document without one of its required
// fields is refused, so that a schema which lets everything pass is noticed.
func TestDocumentsFollowTheirSchemas(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"GGEN_HOME": filepath.Join(dir, "home"), "TEST_NETWORK": filepath.Join(dir, "network")}
	for path, text := range map[string]string{
		"pkg/base/package.toml": "[package]\nname = \"base\"\nversion = \"1.0.0\"\ndescription = \"a base\"\n",
		"pkg/app/package.toml":  "[package]\nname = \"app\"\nversion = \"1.0.0\"\ndescription = \"an app\"\ndependencies = [\"base\"]\n",
		"proj/ggen.toml":        "",
		"words":                 "four random words",
		"names.toml":            "title = \"Team\"\nserial = 1\n[names]\nbase = \"" + strings.Repeat("ab", 32) + "\"\n",
		engineName("1.0.0"):     "one", engineName("1.0.0") + ".sha256": shared.DigestOf([]byte("one")).Hex() + "\n",
		engineName("1.1.0"): "two", engineName("1.1.0") + ".sha256": shared.DigestOf([]byte("two")).Hex() + "\n",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lax, strict := compileSchemas(t, false), compileSchemas(t, true)
	seen := map[string]bool{}
	for _, c := range []conversation{
		{"publish pkg/base", "publish"},
		{"publish pkg/app", "publish"},
		{"publish pkg/app --dry-run", "publish"},
		{"package new fresh --kind gpack", "package new"},
		{"package lint pkg/app", "package lint"},
		{"yank app@1.0.0 --why bad", "yank"},
		{"watch --count 1", "watch"},
		{"key show", "key show"},
		{"key init --recovery-file recovery.key --passphrase-file words", "key init"},
		{"key make spare.key --passphrase-file words", "key make"},
		{"key export --passphrase-file words", "key export"},
		{"key import spare.key --passphrase-file words", "key import"},
		{"key rotate", "key rotate"},
		{"key recover recovery.key --passphrase-file words", "key recover"},
		{"deprecate app --successor base", "deprecate"},
		{"trust list", "trust list"},
		{"trust pin app 3fc02d9edf53", "trust pin"},
		{"trust unpin app", "trust unpin"},
		{"trust why app", "trust why"},
		{"trust proof 3fc02d9edf53 --out proof.json", "trust proof"},
		{"trust proof --check proof.json", "trust proof"},
		{"trust catalogue sign names.toml", "trust catalogue sign"},
		{"trust catalogue add names.json", "trust catalogue add"},
		{"trust catalogue list", "trust catalogue list"},
		{"trust catalogue remove 3fc02d9edf53 Team", "trust catalogue remove"},
		{"cache stats", "cache stats"},
		{"cache pin app", "cache pin"},
		{"cache unpin greeting", "cache unpin"},
		{"cache verify", "cache verify"},
		{"cache clean", "cache clean"},
		{"cache clean app", "cache clean"},
		{"search app", "search"},
		{"search nothing-like-that", "search"},
		{"info app", "info"},
		{"install app --project proj --dry-run", "install"},
		{"install app --project proj --save --trust", "install"},
		{"list --project proj", "list"},
		{"tree --project proj", "tree"},
		{"why base --project proj", "why"},
		{"outdated --project proj", "outdated"},
		{"update --project proj --dry-run", "update"},
		{"export all.bundle --project proj", "export"},
		{"import all.bundle", "import"},
		{"vendor --project proj", "vendor"},
		{"sbom --project proj", "sbom"},
		{"info app --proof --file package.toml", "info --proof"},
		{"verify --project proj", "verify"},
		{"remove app --project proj", "remove"},
		{"list --project proj", "list"},
		{"p2p status", "p2p status"},
		{"p2p start", "p2p start"},
		{"p2p status", "p2p status"},
		{"p2p peer-list", "p2p peer-list"},
		{"p2p peer-list --verbose", "p2p peer-list"},
		{"p2p peer-info 12D3KooWOther", "p2p peer-info"},
		{"p2p bootstrap /ip4/192.0.2.1/tcp/1/p2p/12D3KooWJAHQ326q6AjuZwPcnSV3a2gNb5i98pLFSPZYqbt4RtWf /dead", "p2p bootstrap"},
		{"p2p stop", "p2p stop"},
		{"p2p stop", "p2p stop"},
		{"plugin list", "plugin list"},
		{"plugin install " + engineName("1.0.0"), "plugin install"},
		{"plugin install " + engineName("1.1.0"), "plugin install"},
		{"plugin list", "plugin list"},
		{"plugin verify", "plugin verify"},
		{"plugin use 1.0.0", "plugin use"},
		{"plugin use 1.1.0", "plugin use"},
		{"plugin rollback", "plugin rollback"},
		{"plugin pin", "plugin pin"},
		{"plugin pin --remove", "plugin pin"},
		{"plugin remove 1.0.0", "plugin remove"},
		{"completion bash", "completion"},
		{"version", "version"},
		{"info unknown", "error"},
		{"search --nonsense", "error"},
		{"install", "error"},
		{"publish missing", "error"},
		{"nonsense", "error"},
	} {
		t.Run(c.line, func(t *testing.T) {
			var out bytes.Buffer
			p := testProgram()
			p.args = append([]string{"/usr/bin/" + directName, "--json"}, strings.Fields(c.line)...)
			p.stdout, p.dir = &out, dir
			p.env = func(name string) string { return env[name] }
			p.engines = folderEngines{p.env}
			p.run(t.Context())
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(out.Bytes()))
			if err != nil {
				t.Fatalf("%v: %q", err, &out)
			}
			if err := lax[c.schema].Validate(document); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
			if err := strict[c.schema].Validate(document); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
			seen[c.schema] = true
			refuseWithout(t, lax[c.schema], document, lax[c.schema], document)
		})
	}
	for command := range documents {
		if !seen[command] {
			t.Errorf("no document of %s was seen", command)
		}
	}
}

// refuseWithout takes every required field, at every depth, out of a valid document
// and back: without it the whole must be refused. part is what follows schema.
func refuseWithout(t *testing.T, whole *jsonschema.Schema, document any, schema *jsonschema.Schema, part any) {
	t.Helper()
	switch part := part.(type) {
	case map[string]any:
		for _, field := range schema.Required {
			value := part[field]
			delete(part, field)
			if whole.Validate(document) == nil {
				t.Errorf("%s may be without %s", schema.Location, field)
			}
			part[field] = value
		}
		for field, value := range part {
			if inner := schema.Properties[field]; inner != nil {
				refuseWithout(t, whole, document, inner, value)
			}
		}
	case []any:
		for _, value := range part {
			refuseWithout(t, whole, document, schema.Items2020, value)
		}
	}
}

func engineName(version string) string {
	return "ggen-engine-marketplace_v" + version + "_p1_" + runtime.GOOS + "_" + runtime.GOARCH
}

// TestFailuresAreDocuments however JSON was asked for, and where nothing works.
func TestFailuresAreDocuments(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		dirErr     error
		want       string // reason; empty if JSON was not asked for
	}{
		{"a switch", "info --json unknown", nil, "NOT_FOUND"},
		{"a switch that is set", "info unknown --json=1", nil, "NOT_FOUND"},
		{"a wrong value", "info unknown --json=perhaps", nil, "INVALID_ARGUMENT"},
		{"the last one wins", "info unknown --json=false --json", nil, "NOT_FOUND"},
		{"the last one wins, and is off", "info unknown --json --json=false", nil, ""},
		{"behind the end of flags", "info -- --json", nil, ""},
		{"no working folder", "info unknown --json", os.ErrNotExist, "STORAGE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			dir := t.TempDir()
			p := testProgram()
			p.args, p.stdout, p.dir, p.dirErr = append([]string{directName}, strings.Fields(tc.line)...), &out, dir, tc.dirErr
			p.env = func(name string) string {
				return map[string]string{"GGEN_HOME": filepath.Join(dir, "home"), "TEST_NETWORK": filepath.Join(dir, "network")}[name]
			}
			p.engines = folderEngines{p.env}
			if code := p.run(t.Context()); code == exitDone {
				t.Fatal("it did not fail")
			}
			var failure render.Failure
			if tc.want != "" {
				if err := json.Unmarshal(out.Bytes(), &failure); err != nil {
					t.Fatalf("%v: %q", err, &out)
				}
			}
			if string(failure.Error.Reason) != tc.want || tc.want == "" && out.Len() > 0 {
				t.Fatalf("%q, want the reason %q", &out, tc.want)
			}
		})
	}
}

// TestScriptingListsTheExitCodes: what is written for other programs is what happens.
func TestScriptingListsTheExitCodes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "SCRIPTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exitMeanings {
		if row := fmt.Sprintf("| %d | %s |", e.code, e.meaning); !bytes.Contains(text, []byte(row)) {
			t.Errorf("docs/SCRIPTING.md is without the row %s", row)
		}
	}
}
