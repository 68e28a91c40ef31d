package robust

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// remainsAgree judges what the nodes, which do not run any more, left on their
// disks: the same log, at the same revision the same state, and Raft's servers
// are the members.
func remainsAgree(nodes []*fleet.Node) ([]string, error) {
	var all []*cluster.Remains
	defer func() {
		for _, r := range all {
			_ = r.Close()
		}
	}()
	least := uint64(0)
	for _, n := range nodes {
		r, err := cluster.OpenRemains(n.Dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = append(all, r)
		if least == 0 || r.Revision() < least {
			least = r.Revision()
		}
	}
	found, err := oneLog(nodes, all, least)
	if err != nil {
		return nil, err
	}
	hash := uint64(0)
	for i, r := range all {
		st, err := r.StateAt(least)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodes[i].Name, err)
		}
		if i == 0 {
			hash = st.Hash()
		} else if st.Hash() != hash {
			found = append(found, fmt.Sprintf("at revision %d %s has the state %x, %s has %x", least, nodes[0].Name, hash, nodes[i].Name, st.Hash()))
		}
		servers, err := r.Servers()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodes[i].Name, err)
		}
		var members []string
		for _, m := range st.Members() {
			members = append(members, m.GetName())
		}
		slices.Sort(members)
		if s := slices.Sorted(maps.Keys(servers)); !slices.Equal(s, members) {
			found = append(found, fmt.Sprintf("%s: Raft's servers are %v, the members %v", nodes[i].Name, s, members))
		}
	}
	return found, nil
}

// oneLog compares the entries up to a revision that every node has served by,
// which are therefore committed.
func oneLog(nodes []*fleet.Node, all []*cluster.Remains, upTo uint64) (found []string, err error) {
	type entry struct{ term, sum uint64 }
	seen, by := map[uint64]entry{}, map[uint64]string{}
	for i, r := range all {
		first, last, err := r.Entries()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodes[i].Name, err)
		}
		for index := max(first, 1); index <= min(last, upTo); index++ {
			var e entry
			if e.term, e.sum, err = r.Entry(index); err != nil {
				return nil, fmt.Errorf("%s: %w", nodes[i].Name, err)
			}
			other, ok := seen[index]
			switch {
			case !ok:
				seen[index], by[index] = e, nodes[i].Name
			case other != e && len(found) < maxFindings:
				found = append(found, fmt.Sprintf("log entry %d of %s (term %d) is not that of %s (term %d)", index, nodes[i].Name, e.term, by[index], other.term))
			}
		}
	}
	return found, nil
}

var electionWon = regexp.MustCompile(`raft: election won".* term=(\d+)`)

// troubles are what no node ever logs.
var troubles = []string{
	"panic:", "fatal error:", "DATA RACE",
	"gives another state than the one rebuilt", "control state differs", "control states differ",
}

// logsAgree looks through the logs of all nodes, those that are gone included:
// at most one of them won each term, and none had trouble. It says how many
// terms were won.
func logsAgree(dir string) (found []string, terms int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, 0, err
	}
	winner := map[string]string{}
	for _, file := range files {
		node := strings.TrimSuffix(filepath.Base(file), ".log")
		lines, err := readLines(file)
		if err != nil {
			return nil, 0, err
		}
		for _, line := range lines {
			if m := electionWon.FindStringSubmatch(line); m != nil {
				if other, ok := winner[m[1]]; ok && other != node {
					found = append(found, fmt.Sprintf("%s and %s both won term %s", other, node, m[1]))
				}
				winner[m[1]] = node
			}
			for _, t := range troubles {
				if strings.Contains(line, t) && len(found) < maxFindings {
					found = append(found, node+": "+line)
				}
			}
		}
	}
	if len(winner) == 0 {
		return nil, 0, fmt.Errorf("no election was won in the logs of %s: what is looked for is not what Raft logs", dir)
	}
	return found, len(winner), nil
}

func readLines(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	return lines, sc.Err()
}
