package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/render"
)

// shells are those that there is a completion script for. The scripts hold every
// word as a constant and hand what the user typed to no evaluation: the library's
// own scripts execute a $(...) in a candidate.
var shells = map[string]func([]completion) string{
	"bash": bashCompletion,
	"zsh":  zshCompletion,
	"fish": fishCompletion,
}

func (p *program) completionCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "completion", Usage: "print a completion script for a shell", ArgsUsage: "bash|zsh|fish",
		UsageText: `source <(ggen marketplace completion bash)
ggen marketplace completion zsh > "${fpath[1]}/_ggen"
ggen marketplace completion fish > ~/.config/fish/completions/ggen.fish`,
	}, arity{1, 1}, completionScript)
}

func completionScript(_ context.Context, v *invocation) error {
	write, known := shells[v.args[0]]
	if !known {
		return usage("there is no completion script for %q", v.args[0]).WithHint("choose bash, zsh or fish")
	}
	app := v.app()
	return v.Print(render.Script{Shell: v.args[0], Script: write(completions(app, nil, app.Commands))})
}

// completion is what may be typed behind a command.
type completion struct {
	trail  string      // the command, as typed: "ggen marketplace search"
	words  [][2]string // subcommands, or words that stand for arguments, with what they are for
	flags  [][2]string // all flags with their usage, without dashes
	valued []string    // those of the flags that take a value
}

// completions walks the command tree, the commands before their subcommands.
func completions(app *cli.App, path, commands []*cli.Command) []completion {
	c := completion{trail: commandName(app, path), flags: [][2]string{{"help", "explain the command"}}}
	flags := globalFlags()
	if len(path) > 0 && len(commands) == 0 {
		flags = path[len(path)-1].Flags
		if path[len(path)-1].Name == "completion" {
			for _, shell := range []string{"bash", "zsh", "fish"} {
				c.words = append(c.words, [2]string{shell, "script for " + shell})
			}
		}
	}
	for _, flag := range flags {
		name := flag.Names()[0]
		c.flags = append(c.flags, [2]string{name, flagRow(flag)[1]})
		if _, isBool := flag.(*cli.BoolFlag); !isBool {
			c.valued = append(c.valued, name)
		}
	}
	all := []completion{c}
	for _, command := range commands {
		all[0].words = append(all[0].words, [2]string{command.Name, command.Usage})
		all = append(all, completions(app, append(slices.Clone(path), command), command.Subcommands)...)
	}
	return all
}

// quoted is text as one word of a POSIX shell, whatever it holds.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func quotedList(words []string) string {
	list := make([]string, len(words))
	for i, word := range words {
		list[i] = quoted(word)
	}
	return strings.Join(list, " ")
}

func bashCompletion(all []completion) string {
	var b bytes.Buffer
	program := all[0].trail
	fmt.Fprintf(&b, `# bash completion for %[1]s. Nothing that was typed is evaluated.
%[2]s_completion() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev='' trail=%[1]s word i
    local -a words=() flags=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        prev=${COMP_WORDS[i]}
        case "$trail $prev" in
`, program, functionName(program))
	fmt.Fprintf(&b, "            %s) trail=\"$trail $prev\" ;;\n        esac\n    done\n    case \"$trail\" in\n", strings.Join(trails(all), "|"))
	for _, c := range all {
		var words, flags, valued []string
		for _, word := range c.words {
			words = append(words, word[0])
		}
		for _, flag := range c.flags {
			flags = append(flags, "--"+flag[0])
		}
		for _, flag := range c.valued {
			valued = append(valued, quoted("--"+flag))
		}
		fmt.Fprintf(&b, "        %s)\n            words=(%s)\n            flags=(%s)\n            case \"$prev\" in %s) return ;; esac\n            ;;\n",
			quoted(c.trail), quotedList(words), quotedList(flags), strings.Join(valued, "|"))
	}
	b.WriteString(`    esac
    [[ $cur == -* ]] && words=("${flags[@]}")
    for word in "${words[@]}"; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
    done
    return 0
}
`)
	fmt.Fprintf(&b, "complete -o default -F %s_completion %s\n", functionName(program), program)
	return b.String()
}

func zshCompletion(all []completion) string {
	var b bytes.Buffer
	program := all[0].trail
	fmt.Fprintf(&b, `#compdef %[1]s
# zsh completion for %[1]s. Nothing that was typed is evaluated.
%[2]s() {
    local trail=%[1]s prev='' i
    local -a words_ flags_
    for ((i = 2; i < CURRENT; i++)); do
        prev=${words[i]}
        case "$trail $prev" in
`, program, functionName(program))
	fmt.Fprintf(&b, "            %s) trail=\"$trail $prev\" ;;\n        esac\n    done\n    case \"$trail\" in\n", strings.Join(trails(all), "|"))
	for _, c := range all {
		var words, flags, valued []string
		for _, word := range c.words {
			words = append(words, word[0]+":"+describable(word[1]))
		}
		for _, flag := range c.flags {
			flags = append(flags, "--"+flag[0]+":"+describable(flag[1]))
		}
		for _, flag := range c.valued {
			valued = append(valued, quoted("--"+flag))
		}
		fmt.Fprintf(&b, "        %s)\n            words_=(%s)\n            flags_=(%s)\n            case \"$prev\" in %s) _files; return ;; esac\n            ;;\n",
			quoted(c.trail), quotedList(words), quotedList(flags), strings.Join(valued, "|"))
	}
	b.WriteString(`    esac
    if [[ ${words[CURRENT]} == -* ]]; then
        _describe -t options option flags_
    elif (( ${#words_} )); then
        _describe -t commands command words_
    else
        _files
    fi
}
`)
	fmt.Fprintf(&b, `if [[ ${funcstack[1]} == %[2]s ]]; then
    %[2]s "$@"
else
    compdef %[2]s %[1]s
fi
`, program, functionName(program))
	return b.String()
}

// functionName is what a program's functions are called in a shell: the scripts of
// both our names may be loaded at once.
func functionName(program string) string { return "_" + strings.ReplaceAll(program, "-", "_") }

// describable is text that zsh's _describe takes as it is.
func describable(text string) string { return strings.NewReplacer(`\`, "", ":", ",").Replace(text) }

func fishCompletion(all []completion) string {
	var b bytes.Buffer
	program := all[0].trail
	fmt.Fprintf(&b, `# fish completion for %[1]s. Nothing that was typed is evaluated.
function _%[2]s_trail
    set -l trail %[1]s
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if contains -- "$trail $word" `, program, functionName(program))
	for _, trail := range trails(all) {
		b.WriteString(trail + " ")
	}
	b.WriteString(`
            set trail "$trail $word"
        end
    end
    echo $trail
end
`)
	for _, c := range all {
		at := fmt.Sprintf("complete -c %s -n %s", program, fishQuoted(`test (_`+functionName(program)+`_trail) = "`+c.trail+`"`))
		for _, word := range c.words {
			fmt.Fprintf(&b, "%s -f -a %s -d %s\n", at, fishQuoted(word[0]), fishQuoted(word[1]))
		}
		for _, flag := range c.flags {
			value := ""
			if slices.Contains(c.valued, flag[0]) {
				value = " -r"
			}
			fmt.Fprintf(&b, "%s -l %s%s -d %s\n", at, flag[0], value, fishQuoted(flag[1]))
		}
	}
	return b.String()
}

// fishQuoted is text as one word of fish, whatever it holds.
func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// trails are all commands but the program itself, quoted.
func trails(all []completion) []string {
	var list []string
	for _, c := range all[1:] {
		list = append(list, quoted(c.trail))
	}
	return list
}
