package readme_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"ggen.dev/marketplace/p2p/readme"
)

func TestExcerpt(t *testing.T) {
	for _, tc := range []struct{ name, source, want string }{
		{"nothing", "", ""},
		{"plain text", "One line\r\nand  another.\n", "One line and another."},
		{"headings", "# Title #\n\nText\n====\nmore\n---\nend ##", "Title # Text more end ##"},
		{"a hash that is none", "#hashtag and C#", "#hashtag and C#"},
		{"lists and quotations", "- one\n  * two\n1. three\n> > four\n- [x] five\n2024 was a year", "one two three four x five 2024 was a year"},
		{"emphasis", "**bold** _it_ __both__ ~~gone~~ `code` snake_case 2 * 3", "bold it both gone code snake_case 2 3"},
		{"links", "[text](https://example.org/a_b) and [other][ref] or <https://example.org>, https://example.org/x.\n\n[ref]: https://example.org 'title'", "text and other or ,"},
		{"badges", "[![build](https://ci.example/b.svg)](https://ci.example) ![logo](l.png) Name", "Name"},
		{"code", "before\n```sh\ngreet --all\n```\nafter\n~~~~\n```\n~~~\n~~~~\nend", "before after end"},
		{"code without an end", "before\n```\nrm -rf", "before"},
		{"front matter", "---\ntitle: x\n---\ntext", "text"},
		{"a rule is no front matter", "---\ntext", "text"},
		{"tables", "| a | b |\n|---|:-:|\n| 1 | 2 |", "a b 1 2"},
		{"HTML", "<h1 align=\"center\">Big</h1><!-- not\nthis --><script>alert(1)</script><style>\nb{}</style>words<br/>apart &amp; &lt;kept&gt;", "Big words apart & <kept>"},
		{"HTML without an end", "text <!-- and all of this", "text"},
		{"comparisons are no tags", "1 < 2 and 3 > 2", "1 < 2 and 3 > 2"},
		{"escapes", `\*not bold\* a\b`, "*not bold* a\\b"},
		{"control characters, also written as entities", "a\x1b[31mb\u202ec&#27;d\u200be\u00ad", "a[31mbcde"},
		{"not UTF-8", "caf\xe9 au lait", "caf au lait"},
		{"with a mark of its encoding", "\ufeff# Title", "Title"},
		{"not text", "%PDF\x00\x01", ""},
		{"other scripts", "# 模板\n\nШаблоны для **служб**", "模板 Шаблоны для служб"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := readme.Excerpt([]byte(tc.source), 512); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestExcerptIsCutBetweenWords(t *testing.T) {
	for _, tc := range []struct {
		source string
		most   int
		want   string
	}{
		{"one two three", 13, "one two three"},
		{"one two three", 12, "one two"},
		{"one two three", 7, "one two"},
		{"one two three", 2, "on"},
		{"日本語", 8, "日本"},
		{"日本語", 2, ""},
		{"x", 0, ""},
		{strings.Repeat("ä ", readme.MaxSource), 5, "ä ä"},
	} {
		if got := readme.Excerpt([]byte(tc.source), tc.most); got != tc.want {
			t.Errorf("%.20q in %d bytes: got %q, want %q", tc.source, tc.most, got, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		files []string
		want  string
	}{
		{nil, ""},
		{[]string{"package.toml", "README", "readme.pdf"}, "README"},
		{[]string{"README.txt", "Readme.MD", "README.rst"}, "Readme.MD"},
		{[]string{"readme.md.bak", "docs"}, ""},
	} {
		if got := readme.Find(tc.files); got != tc.want {
			t.Errorf("among %q: got %q, want %q", tc.files, got, tc.want)
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	for _, seed := range []string{
		"# Title\n\n[![b](u)](v) text `code` <b>x</b> &#27; \\* _a_\n```\nx\n```\n", "---\na: b\n---\n", "<!--", "[a](b", "![[![", "~~~\n\xff\u202e", "| - | - |",
	} {
		f.Add([]byte(seed), 40)
	}
	f.Fuzz(func(t *testing.T, source []byte, most int) {
		if most < 0 || most > 1<<12 {
			return
		}
		got := readme.Excerpt(source, most)
		switch {
		case len(got) > most:
			t.Fatalf("%d bytes, %d are allowed", len(got), most)
		case !utf8.ValidString(got):
			t.Fatalf("%q is not UTF-8", got)
		case strings.Join(strings.Fields(got), " ") != got:
			t.Fatalf("white space in %q is not folded", got)
		case strings.ContainsFunc(got, func(r rune) bool { return unicode.Is(unicode.C, r) }):
			t.Fatalf("%q holds what cannot be seen", got)
		}
	})
}
