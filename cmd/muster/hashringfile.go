package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// hashringFields are the fields that Thanos knows, by where they stand; those of
// external_labels are whatever they are called.
var hashringFields = map[string][]string{
	"[]":                                     {"hashring", "tenants", "tenant_matcher_type", "endpoints", "algorithm", "external_labels", "shuffle_sharding_config"},
	"[].endpoints[]":                         {"address", "capnproto_address", "az"},
	"[].shuffle_sharding_config":             {"shard_size", "cache_size", "zone_awareness_disabled", "overrides"},
	"[].shuffle_sharding_config.overrides[]": {"shard_size", "tenants", "tenant_matcher_type"},
	"[].external_labels":                     nil,
}

// parseHashrings reads a hashrings.json; a field that nobody knows is an error,
// since it may mean something. Errors say in which line, and where in the file.
func parseHashrings(raw []byte) ([]hashring, error) {
	if err := (&fileWalk{json.NewDecoder(bytes.NewReader(raw)), raw}).file(); err != nil {
		return nil, err
	}
	var rings []hashring
	err := json.Unmarshal(raw, &rings)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return nil, fmt.Errorf("line %d: %s is a %s, want %s", lineAt(raw, kind.Offset), kind.Field, kind.Value, kind.Type)
	case err != nil:
		return nil, err
	case len(rings) == 0:
		return nil, errors.New("there is no hashring in it")
	}
	return rings, nil
}

func lineAt(raw []byte, offset int64) int {
	return 1 + bytes.Count(raw[:min(int(offset), len(raw))], []byte("\n"))
}

// fileWalk looks at the names of all fields before they are read.
type fileWalk struct {
	dec *json.Decoder
	raw []byte
}

func (w *fileWalk) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{lineAt(w.raw, w.dec.InputOffset())}, args...)...)
}

func (w *fileWalk) file() error {
	tok, err := w.token()
	if err != nil {
		return err
	}
	if tok != json.Delim('[') {
		return w.errorf("want a list of hashrings, [{…}, …]")
	}
	if err := w.list("", ""); err != nil {
		return err
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return w.errorf("more follows after the list of hashrings")
	}
	return nil
}

func (w *fileWalk) token() (json.Token, error) {
	tok, err := w.dec.Token()
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("line %d: %w", lineAt(w.raw, syntax.Offset), err)
	case err != nil:
		return nil, w.errorf("the file ends before its list does")
	}
	return tok, nil
}

// value walks over one value; at is where it stands, kind the same without numbers.
func (w *fileWalk) value(at, kind string) error {
	tok, err := w.token()
	if err != nil {
		return err
	}
	_, text := tok.(string)
	switch {
	case kind == "[].endpoints[]" && !text && tok != json.Delim('{'):
		return w.errorf("%s: want an address, or an object with one", at)
	case tok == json.Delim('['):
		return w.list(at, kind)
	case tok == json.Delim('{'):
		return w.object(at, kind)
	}
	return nil
}

func (w *fileWalk) list(at, kind string) error {
	for i := 0; w.dec.More(); i++ {
		if err := w.value(fmt.Sprintf("%s[%d]", at, i), kind+"[]"); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}

func (w *fileWalk) object(at, kind string) error {
	known, placed := hashringFields[kind]
	if !placed {
		return w.errorf("%s: an object, where none belongs", at)
	}
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		switch {
		case known != nil && !slices.Contains(known, key):
			return w.errorf("unknown field %s.%s: want %s", at, key, strings.Join(known, ", "))
		case seen[key]:
			return w.errorf("%s.%s stands there twice", at, key)
		}
		seen[key] = true
		if err := w.value(at+"."+key, kind+"."+key); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}
