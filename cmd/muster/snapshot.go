package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster"
)

func snapshotCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:        "snapshot",
		Usage:       "keep the control state in a file, look into it, put it back",
		Subcommands: []*cli.Command{snapshotSave(std), snapshotInspect(std), snapshotRestore(std)},
	}
}

// archiveAnswer is what a command says of an archive.
type archiveAnswer struct {
	File   string `json:"file"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	cluster.ArchiveHeader
}

func answerOf(file string, a *cluster.Archive) archiveAnswer {
	return archiveAnswer{file, a.Size, a.SHA256, a.Header}
}

func snapshotSave(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "write the newest control state to a file and read it back; it holds hashes of tokens, no token and no key",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "stale", Usage: "take what this node has, without asking the leader"}},
		Action: func(c *cli.Context) error {
			file, err := oneArg(c, "the file to write")
			if err != nil {
				return err
			}
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
				return &failure{Code: exitConflict, Text: file + " exists already", Next: "name another file, or move that one away"}
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			q := url.Values{}
			if c.Bool("stale") {
				q.Set("consistency", "local")
			}
			a, err := cluster.SaveArchive(file, func(w io.Writer) error {
				_, err := cl.copy(ctx, request{method: http.MethodGet, path: "/api/v1/snapshot", query: q}, w)
				return err
			})
			if err != nil {
				return leaderless(err)
			}
			if wantsJSON(c) {
				return std.json(answerOf(file, a))
			}
			std.printf("%s  %s  revision %d  index %d  term %d  sha256 %s  verified\n", file, humanize.IBytes(uint64(a.Size)),
				a.Header.Revision, a.Header.Index, a.Header.Term, a.SHA256)
			if a.Header.Local {
				std.notef("as %s has it: no leader has confirmed that nothing newer was committed\n", a.Header.Node)
			}
			return nil
		},
	}
}

// leaderless tells of the way that needs no leader.
func leaderless(err error) error {
	var f *failure
	if errors.As(err, &f) {
		out := *f
		if f.Code == exitNoLeader {
			out.Next = "repeat with --stale: that saves the newest state that this node knows"
		}
		return &out
	}
	return err
}

// inspected is what `snapshot inspect` tells.
type inspected struct {
	archiveAnswer
	Members    []string `json:"members"`
	Rings      []string `json:"rings"`
	Tenants    int      `json:"tenants"`
	Tombstones int      `json:"tombstones"`
	Tokens     int      `json:"tokens"`
	Events     int      `json:"events"`
}

func snapshotInspect(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "read a snapshot to its end and say what it holds; needs no server",
		ArgsUsage: "FILE",
		Action: func(c *cli.Context) error {
			file, err := oneArg(c, "the snapshot's file")
			if err != nil {
				return err
			}
			a, err := cluster.OpenArchive(file)
			if err != nil {
				return err
			}
			in := inspect(file, a)
			if wantsJSON(c) {
				return std.json(in)
			}
			std.inspected(in)
			return nil
		},
	}
}

func inspect(file string, a *cluster.Archive) inspected {
	st := a.State
	in := inspected{
		archiveAnswer: answerOf(file, a), Members: []string{}, Rings: []string{},
		Tenants: st.TenantCount(), Tombstones: st.TombstoneCount(), Tokens: len(st.Tokens()), Events: len(st.Events(0)),
	}
	for _, m := range st.Members() {
		in.Members = append(in.Members, m.GetName())
	}
	for _, r := range st.Rings() {
		in.Rings = append(in.Rings, r.Spec.GetName())
	}
	return in
}

func (s stdio) inspected(in inspected) {
	s.table([]string{"CLUSTER", "ID", "INCARNATION", "REVISION", "INDEX", "TERM", "TAKEN", "ON", "VERSION"}, [][]string{{
		in.Cluster, in.ID, fmt.Sprint(in.Incarnation), fmt.Sprint(in.Revision), fmt.Sprint(in.Index), fmt.Sprint(in.Term),
		in.Time.Format(time.RFC3339), in.Node, dash(in.Version),
	}})
	s.table([]string{"MEMBERS", "RINGS", "TENANTS", "DELETED TENANTS", "TOKENS", "EVENTS"}, [][]string{{
		list(in.Members, "none"), list(in.Rings, "none"), fmt.Sprint(in.Tenants), fmt.Sprint(in.Tombstones),
		fmt.Sprintf("%d (hashes)", in.Tokens), fmt.Sprint(in.Events),
	}})
	s.printf("%s, whole, sha256 %s\n", humanize.IBytes(uint64(in.Size)), in.SHA256)
	if in.Local {
		s.printf("as %s had it: no leader had confirmed that nothing newer was committed\n", in.Node)
	}
}

// restoredAnswer is the form of `snapshot restore -o json`.
type restoredAnswer struct {
	Changes []cluster.Differing `json:"changes"`
	Notes   []string            `json:"notes"`
	applied
}

func snapshotRestore(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "put tenants, rings' definitions, settings and people's tokens back, at once; members and slots stay",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			dryRunFlag(), // what it changes has many versions
			&cli.BoolFlag{Name: "prune", Usage: "delete the tenants and rings that the snapshot does not know, samples included"},
			&cli.StringFlag{Name: "confirm", Usage: "name of this cluster, to restore another cluster's snapshot into it"},
		},
		Action: func(c *cli.Context) error {
			file, err := oneArg(c, "the snapshot's file")
			if err != nil {
				return err
			}
			a, err := cluster.OpenArchive(file)
			if err != nil {
				return err
			}
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			q := url.Values{}
			if c.Bool("prune") {
				q.Set("prune", "true")
			}
			if name := c.String("confirm"); name != "" {
				q.Set("confirm", name)
			}
			raw, _, err := cl.raw(ctx, mutation(c, request{method: http.MethodPost, path: "/api/v1/snapshot", query: q, stream: f}))
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var answer restoredAnswer
			if err := json.Unmarshal(raw, &answer); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			std.restored(a.Header, answer)
			return nil
		},
	}
}

// shownChanges is how many objects a person is told of one by one.
const shownChanges = 50

func (s stdio) restored(h cluster.ArchiveHeader, a restoredAnswer) {
	for i, o := range a.Changes {
		if i == shownChanges {
			s.printf("… and %d more, -o json tells all\n", len(a.Changes)-i)
			break
		}
		line := strings.TrimSpace(fmt.Sprintf("%s %s %s", o.Change, o.Kind, o.Name))
		if o.Detail != "" {
			line += ": " + o.Detail
		}
		s.printf("%s\n", line)
	}
	for _, n := range a.Notes {
		s.printf("note: %s\n", n)
	}
	if len(a.Changes) == 0 {
		s.printf("nothing to restore: the cluster has all that the snapshot of %s holds\n", h.Time.Format(time.RFC3339))
		return
	}
	s.said(fmt.Sprintf("restored %d objects from the snapshot of %s, revision %d", len(a.Changes), h.Time.Format(time.RFC3339), h.Revision), a.applied)
}
