package manifest

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// places says where the keys and list items of a document stand. Lines are counted
// when somebody asks: counting for every key would take the square of the length.
type places struct {
	text    []byte
	offsets map[string]uint32 // by dotted path; items of lists by index
}

// findPlaces reads a document that is known to be valid TOML.
func findPlaces(data []byte) places {
	p := places{text: data, offsets: map[string]uint32{}}
	parser := unstable.Parser{}
	parser.Reset(data)
	table := ""
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = p.key("", e.Key())
		case unstable.KeyValue:
			p.value(p.key(table, e.Key()), e.Value())
		}
	}
	return p
}

// key notes a dotted key and all its parts, and returns its path.
func (p places) key(path string, parts unstable.Iterator) string {
	for parts.Next() {
		path = join(path, string(parts.Node().Data))
		p.note(path, parts.Node().Raw.Offset)
	}
	return path
}

func (p places) value(path string, node *unstable.Node) {
	children := node.Children()
	switch node.Kind {
	case unstable.InlineTable:
		for children.Next() {
			p.value(p.key(path, children.Node().Key()), children.Node().Value())
		}
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			item := join(path, strconv.Itoa(i))
			if raw := children.Node().Raw; raw.Length > 0 {
				p.note(item, raw.Offset)
			}
			p.value(item, children.Node())
		}
	}
}

// note keeps the first place of a path: that of a table's own header.
func (p places) note(path string, offset uint32) {
	if _, known := p.offsets[path]; !known {
		p.offsets[path] = offset
	}
}

// at returns the line and column of a path, or else of what it is part of, or 0, 0.
func (p places) at(path string) (line, column int) {
	for path != "" {
		if offset, ok := p.offsets[path]; ok && int(offset) <= len(p.text) {
			before := p.text[:offset]
			return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
		}
		path = path[:max(strings.LastIndexByte(path, '.'), 0)]
	}
	return 0, 0
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
