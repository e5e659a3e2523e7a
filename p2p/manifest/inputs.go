package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Limits on inputs. Texts that are longer are cut.
const (
	maxInputs    = 64
	maxInputType = 32  // bytes
	maxInputText = 256 // bytes of a default or a description
)

// inputName is what templates can use as a variable.
var inputName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// inputs reads [package.inputs.NAME] and the table [variables] of real manifests.
// An input that is not understood is a warning: it says nothing about whether the
// package can be installed.
func (r *reader) inputs(document map[string]any) []shared.Input {
	found := map[string]shared.Input{}
	if variables, ok := document["variables"].(map[string]any); ok {
		r.inputTable(found, "variables", variables)
	}
	if inputs, ok := r.fields["inputs"].(map[string]any); ok {
		r.used["inputs"] = true
		r.inputTable(found, join(r.table, "inputs"), inputs)
	}
	if len(found) == 0 {
		return nil
	}
	inputs := make([]shared.Input, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		inputs = append(inputs, found[name])
	}
	return inputs
}

func (r *reader) inputTable(found map[string]shared.Input, path string, table map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		here := join(path, name)
		warn := func(fix, format string, args ...any) {
			r.find(shared.SeverityWarning, "inputs", here, fix, format, args...)
		}
		if !inputName.MatchString(name) {
			warn("use at most 64 letters, digits, _ and -, starting with a letter", "the input %q cannot be a variable of a template", name)
			continue
		}
		if len(found) >= maxInputs {
			warn("group them", "there are more than %d inputs; the others are not shown", maxInputs)
			return
		}
		input, ok := inputOf(name, table[name])
		if !ok {
			warn(fmt.Sprintf(`write %s = { type = "string", default = "…", description = "…" }`, name), "the input %s is neither a default nor a table of type, required, default and description", name)
			continue
		}
		found[name] = input
	}
}

// inputOf reads a table, or a plain value, which is a default.
func inputOf(name string, value any) (shared.Input, bool) {
	fields, ok := value.(map[string]any)
	if !ok {
		text, plain := plainText(value)
		return shared.Input{Name: name, Type: "string", Default: publisher.CutText(text, maxInputText)}, plain
	}
	text := func(key string, most int) string {
		plain, _ := plainText(fields[key])
		return publisher.CutText(plain, most)
	}
	input := shared.Input{
		Name: name, Type: text("type", maxInputType),
		Default: text("default", maxInputText), Description: text("description", maxInputText),
	}
	if input.Type == "" {
		input.Type = "string"
	}
	input.Required, _ = fields["required"].(bool)
	return input, true
}
