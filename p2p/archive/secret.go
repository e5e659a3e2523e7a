package archive

import (
	"bytes"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"ggen.dev/marketplace/shared"
)

// secretHead is how much of a file is searched for a secret, in bytes: more than
// the longest chain of certificates that stands before a private key.
const secretHead = 1 << 20

// secretFiles are names that no public file has, wherever it lies, and what they
// hold. This file is the one place where such names are listed.
var secretFiles = map[string]string{
	".env":       "settings of an environment, often with passwords",
	".netrc":     "passwords for servers",
	"_netrc":     "passwords for servers",
	"id_rsa":     "a private key of SSH",
	"id_dsa":     "a private key of SSH",
	"id_ecdsa":   "a private key of SSH",
	"id_ed25519": "a private key of SSH",
}

// examples are the extensions of .env files that are written to be read by others,
// or to be filled in: packages are templates.
var examples = []string{"example", "sample", "template", "dist", "tmpl", "tera", "hbs", "j2"}

// npmToken is a setting of npm that holds a secret itself; ${NAME} only says where
// it will come from.
var npmToken = regexp.MustCompile(`(?m)^[^#;\r\n]*_(?:authToken|auth|password)[ \t]*=[ \t]*[^\s$]`)

// secretByName says what a file of this name holds, if that is a secret. Case does
// not matter, as on some systems.
func secretByName(name string) string {
	folded := foldPath(name)
	base := path.Base(folded)
	if what := secretFiles[base]; what != "" {
		return what
	}
	if extension, ok := strings.CutPrefix(base, ".env."); ok && !slices.Contains(examples, path.Base(strings.ReplaceAll(extension, ".", "/"))) {
		return secretFiles[".env"]
	}
	if base == "credentials" && path.Base(path.Dir(folded)) == ".aws" {
		return "keys of AWS"
	}
	return ""
}

// secretByContent says what secret a file holds. Its content is read only if its
// name suggests one.
func secretByContent(name string, content io.Reader) (what string, err error) {
	base := path.Base(foldPath(name))
	extension := path.Ext(base)
	if extension != ".pem" && extension != ".key" && base != ".npmrc" {
		return "", nil
	}
	head, err := io.ReadAll(io.LimitReader(content, secretHead))
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	case base == ".npmrc" && npmToken.Match(head):
		return "a token of npm", nil
	case base != ".npmrc" && bytes.Contains(head, []byte("PRIVATE KEY")):
		return "a private key", nil
	}
	return "", nil
}

// refuseSecret is about a file that must not become public by accident.
func refuseSecret(name, what string) *shared.Error {
	return refuse(name, "it is likely to hold %s, and a release can never be taken back", what).
		WithHint("leave it out: add a line /%s to .ggenignore, or %q to `exclude` in the manifest; an example is called .env.example", name, "/"+name)
}
