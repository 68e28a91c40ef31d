package muster

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-metrics/muster"

// below names, for each room, the rooms of ours it may import: those on lower
// floors that ARCHITECTURE.md gives it. Changing it is a decision record.
var below = map[string][]string{
	"cmd":     {"api", "cluster", "ingest", "ring", "proto", "tsdb", "ship"},
	"api":     {"cluster", "tsdb", "ring", "proto"},
	"cluster": {"ring", "proto"},
	"ingest":  {"ring", "proto"},
	"ring":    {},
	"proto":   {},
	"tsdb":    {},
	"ship":    {},
	"scripts": {"cmd", "api", "cluster", "ingest", "ring", "proto", "tsdb", "ship"},
}

// TestImportsRunDownwards reads the files itself: a test that runs `go list`
// would be cached green after a bad import.
func TestImportsRunDownwards(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		room, _, inRoom := strings.Cut(filepath.ToSlash(path), "/")
		if !inRoom {
			return nil
		}
		files++
		allowed, known := below[room]
		if !known {
			t.Errorf("%s: %s is no room of this house", path, room)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if inside, ok := strings.CutPrefix(name, module+"/"); ok {
				target, _, _ := strings.Cut(inside, "/")
				if target != room && !slices.Contains(allowed, target) {
					t.Errorf("%s imports %s: %s stands on no floor above %s", path, inside, room, target)
				}
			}
			if name == "github.com/prometheus/prometheus/tsdb" && (spec.Name == nil || spec.Name.Name != "promtsdb") {
				t.Errorf("%s imports Prometheus' tsdb without the name promtsdb", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 5 {
		t.Fatalf("read %d files: this test looks at the wrong place", files)
	}
}
