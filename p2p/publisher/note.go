package publisher

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"ggen.dev/marketplace/shared"
)

func signerName(id shared.PublisherID) string { return "ggen/" + string(id) }

// SignNote signs a text in a publisher's name with each of its keys, as a signed
// note. The text's first line must say what it is, in words that no other kind of
// text begins with: a signature holds for the text alone. It ends with a newline.
func SignNote(id shared.PublisherID, text string, keys ...*Key) ([]byte, error) {
	var signers []note.Signer
	for _, key := range keys {
		verifier, err := noteVerifier(id, key.Public())
		if err != nil {
			return nil, err
		}
		signers = append(signers, noteSigner{verifier, key})
	}
	return note.Sign(&note.Note{Text: text}, signers...)
}

// OpenNote returns the text of a note that the newest root document of a chain
// vouches for. Errors: ErrInvalid.
func OpenNote(signed []byte, chain Chain) (text string, err error) {
	text, err = openNote(signed, chain.ID, chain.Current())
	if err != nil {
		return "", invalid("%w", err)
	}
	return text, nil
}

// openNote verifies a note against the keys and the threshold of a root document.
func openNote(signed []byte, id shared.PublisherID, root Root) (text string, err error) {
	var verifiers []note.Verifier
	for _, key := range root.Keys {
		v, err := noteVerifier(id, key)
		if err != nil {
			return "", err
		}
		verifiers = append(verifiers, v)
	}
	opened, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return "", err
	}
	hashes := map[uint32]bool{}
	for _, sig := range opened.Sigs {
		hashes[sig.Hash] = true
	}
	if len(hashes) < root.Threshold {
		return "", fmt.Errorf("it has %d signatures; %d are needed", len(hashes), root.Threshold)
	}
	return opened.Text, nil
}

func noteVerifier(id shared.PublisherID, key PublicKey) (note.Verifier, error) {
	encoded, err := note.NewEd25519VerifierKey(signerName(id), key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(encoded)
}

// noteSigner gives a [Key] the form that package note asks for.
type noteSigner struct {
	note.Verifier
	key *Key
}

// Sign implements note.Signer.
func (s noteSigner) Sign(msg []byte) ([]byte, error) { return s.key.sign(msg), nil }
