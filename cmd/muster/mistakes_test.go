package main

import (
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// mistake is what a person can do wrong with one verb; each line is the rest of
// a command line, so that a further mistake is one more line here. Files lie in
// DIR, which is the bed's.
type mistake struct {
	verb string
	// good is what the verb is asked for when its command line is right.
	good string
	// role is the least that a token needs; "": no token ends up here.
	role string
	// none names something that is not there; several lines are parted by |.
	none string
	// there is refused since it is there already, or not as it would have to be.
	there string
	// refused are values that the command line takes and the cluster does not.
	refused string
	// wrong are further errors of usage, which the flags alone do not show.
	wrong string
	// unled says why a missing leader does not matter; "": it does.
	unled string
	// unformed says why it makes sense without a cluster; "": it does not.
	unformed string
}

const (
	itself  = "it is what one does then"
	reads   = "samples are read without a leader"
	already = "this node is a member already"
)

// mistakes has every verb that talks to a server, in the order of the help.
var mistakes = []mistake{
	{verb: "cluster init", role: "admin", there: " ", refused: "--replication-factor 0|--slots 12|--tenant-auth magic|--tenant-label 9x", unled: already, unformed: itself},
	{verb: "cluster join", good: "n1:1 --token x", role: "admin", there: "n1:1 --token JOIN", refused: "n1:1 --token x", wrong: "n1:1|n1:1 --join-token-file DIR/nosuch", unled: already, unformed: itself},
	{verb: "cluster status", role: "viewer", unled: itself},
	{verb: "cluster members", role: "viewer"},
	{verb: "cluster events", role: "viewer", refused: "--since yesterday|--since -1h"},
	{verb: "cluster verify", role: "viewer", unled: itself},
	{verb: "cluster recover", good: "--plan", role: "admin", there: "--as-sole-voter --confirm test", wrong: " |--as-sole-voter|--plan --as-sole-voter", unled: itself},
	{verb: "cluster drain", good: "n1", role: "operator", none: "n9", there: "n1"},
	{verb: "cluster undrain", good: "n1", role: "operator", none: "n9"},
	{verb: "cluster remove", good: "n1", role: "operator", none: "n9", there: "n1|n1 --force", wrong: "n1 --force --cancel"},
	{verb: "cluster set", good: "n1 --zone b", role: "operator", none: "n9 --zone b", refused: "n1 --weight 0|n1 --zone '" + strings.Repeat("z", 300) + "'", wrong: "n1"},
	{verb: "cluster transfer-leader", role: "operator", none: "n9", there: " "},
	{verb: "ring list", role: "viewer"},
	{verb: "ring show", role: "viewer", none: "nosuch"},
	{verb: "ring create", good: "new --tenants x --replication-factor 1", role: "operator", there: "hard --tenants x|new --tenants team-a --replication-factor 1|new --replication-factor 1", refused: "a/b|new --tenants [a|new --tenants x --nodes n9|new --tenants x --nodes n1|new --tenants x --slots 12|new --tenants x --replication-factor 0|new --tenants x --write-quorum some"},
	{verb: "ring set", good: "hard --write-quorum all", role: "operator", none: "nosuch --write-quorum all", refused: "hard --tenants [a|hard --nodes n9|hard --replication-factor 9|hard --write-quorum some", there: "hard --tenants ''"},
	{verb: "ring delete", good: "hard", role: "operator", none: "nosuch"},
	{verb: "ring plan", role: "viewer", none: "nosuch|default --remove n9", refused: "default --remove n1|default --add n1|default --weight n1=0|default --zone n9=b|default --replication-factor 9", wrong: "default --weight n1|default --zone n1"},
	{verb: "ring rebalance", role: "operator", none: "nosuch|nosuch --cancel", there: "--cancel", wrong: "--cancel --no-wait"},
	{verb: "ring import", good: "-f DIR/hashrings.json --node 10.0.0.1:19391=n1 --replication-factor 1", role: "operator", refused: "-f DIR/hashrings.json --node 10.0.0.1:19391=n1", wrong: " |-f DIR/nosuch|-f DIR/empty.json"},
	{verb: "tenant list", role: "viewer"},
	{verb: "tenant show", good: "team-a", role: "viewer", none: "nosuch", refused: "a/b"},
	{verb: "tenant create", good: "new", role: "operator", there: "team-a", refused: "a/b|..|new --retention long|new --retention -1|new --state gone|new --active-series -1|new --relabel DIR/norule.yaml", wrong: "new --relabel DIR/field.yaml|new --relabel DIR/nosuch"},
	{verb: "tenant set", good: "team-a --retention 5d", role: "operator", none: "nosuch --retention 5d|nosuch --ring hard", wrong: "team-a --delete-emptied|team-a --ring hard --retention 5d|team-a --relabel DIR/field.yaml", refused: "team-a --retention long|team-a --ring nosuch|team-a --out-of-order-window -1|team-a --state gone|team-a --samples-per-second -5"},
	{verb: "tenant ring", good: "team-a", role: "viewer", none: "nosuch"},
	{verb: "tenant delete", good: "team-a", role: "operator", none: "nosuch"},
	{verb: "tenant apply", good: "-f DIR/tenants.yaml", role: "operator", refused: "-f DIR/value.yaml", wrong: " |-f DIR/nosuch|-f DIR/empty.yaml --prune|-f DIR/field.yaml|-f DIR/twice.yaml"},
	{verb: "tenant token create", good: "team-a", role: "operator", none: "nosuch", refused: "team-a --ttl soon"},
	{verb: "tenant token list", good: "team-a", role: "viewer", none: "nosuch"},
	{verb: "tenant token revoke", good: "team-a TOKEN", role: "operator", none: "nosuch x|team-a nosuch", wrong: "team-a"},
	{verb: "token create", good: "--role viewer", role: "admin", refused: "--role king|--role viewer --ttl soon", wrong: " "},
	{verb: "token list", role: "admin"},
	{verb: "token revoke", good: "TOKEN", role: "admin", none: "nosuch"},
	{verb: "cert show", role: "admin"},
	{verb: "cert issue", good: "--role reader thanos --out DIR/keys", role: "admin", none: "--role reader thanos --tenant nosuch --out DIR/keys", there: "--role reader taken --out DIR", refused: "--role node r1 --out DIR/keys|--role reader r2 --ttl soon --out DIR/keys", wrong: "thanos|--role reader thanos --out DIR/nosuch"},
	{verb: "cert revoke", good: "0", role: "admin", none: "nosuch|0"},
	{verb: "cert renew", role: "admin", unled: "any voter that has the CA's key renews it"},
	{verb: "cert rotate-ca", role: "admin", none: "--finish"},
	{verb: "settings show", role: "viewer"},
	{verb: "settings set", good: "max_tenants=500", role: "operator", refused: "colour=red|tenant_label=other|max_tenants=many|max_tenants=-1|tenant_defaults.retention=-1|tenant_auth=magic", wrong: "colour|colour.red=1"},
	{verb: "snapshot save", good: "DIR/new.snapshot", role: "admin", there: "DIR/a.snapshot", wrong: "DIR/no/folder"},
	{verb: "snapshot restore", good: "DIR/a.snapshot", role: "admin", none: "DIR/nosuch", there: "DIR/foreign.snapshot", refused: "DIR/foreign.snapshot --confirm other", wrong: "DIR/field.yaml"},
	{verb: "query", good: "-t team-a up", role: "viewer", refused: "-t team-a up[|-t team-a up --time yesterday|-t team-a up --start 5 --end 1|-t team-a up --start 1 --end 5 --step 0", wrong: "up|-t team-a|-t team-a up --end 5|-t team-a up --time 5 --start 5", unled: reads},
}

// alone are the verbs that ask no server.
var alone = []mistake{
	{verb: "server", wrong: "--tsdb.block-duration 1s|--log.level loud|--init --join h:1 --join-token-file f|--join h:1|--grpc.tls perhaps|--max-request-bytes much|--memory-budget much|--memory-budget 1MiB|--objstore.config a --objstore.config-file b|--tracing.config a --tracing.config-file b|--tracing.config '{type: ZIPKIN}'|--tracing.config '{type: OTLP, config: {client_type: http}}'|--tracing.config '{type: OTLP, config: {client_type: udp}}'|--tracing.config '{type: OTLP, config: {colour: red}}'"},
	{verb: "ring simulate", wrong: "--nodes 0|--slots 12|--weights a"},
	{verb: "snapshot inspect", good: "DIR/a.snapshot", none: "DIR/nosuch", wrong: "DIR/field.yaml"},
	{verb: "demo", wrong: "--nodes 0"},
	{verb: "demo scraper"},
	{verb: "selftest"},
	{verb: "completion", good: "bash", wrong: "ksh"},
	{verb: "version"},
}

// leafVerb is a verb that does something.
type leafVerb struct {
	verb string
	*cli.Command
}

// leafVerbs are all of them, in the order of the help.
func leafVerbs() []leafVerb {
	var out []leafVerb
	var walk func(words string, commands []*cli.Command)
	walk = func(words string, commands []*cli.Command) {
		for _, c := range commands {
			at := strings.TrimSpace(words + " " + c.Name)
			if c.Action != nil && c.Name != "help" {
				out = append(out, leafVerb{at, c})
			}
			walk(at, c.Subcommands)
		}
	}
	walk("", newApp(stdio{io.Discard, io.Discard}).Commands)
	return out
}

func (v leafVerb) has(flag string) bool { return named(v.Flags, flag) != nil }

// counted is a flag of the verb that wants a number or a duration; "": none.
func (v leafVerb) counted() string {
	for _, f := range v.Flags {
		switch f.(type) {
		case *cli.IntFlag, *cli.Int64Flag, *cli.UintFlag, *cli.Uint64Flag, *cli.Float64Flag, *cli.DurationFlag:
			return "--" + f.Names()[0]
		}
	}
	return ""
}

// valued is a flag of the verb that wants a value; "": none.
func (v leafVerb) valued() string {
	for _, f := range v.Flags {
		if _, is := f.(*cli.BoolFlag); !is {
			return "--" + f.Names()[0]
		}
	}
	return ""
}

// judged says whether the verb sends values that the cluster looks at.
func (v leafVerb) judged() bool {
	if strings.Contains(v.ArgsUsage, "=") {
		return true
	}
	local := []string{"dry-run", "if-version", "request-id", "timeout", "reason", "file", "node", "confirm", "from-snapshot", "token", "join-token-file", "out", "add", "remove"}
	return slices.ContainsFunc(v.Flags, func(f cli.Flag) bool {
		_, is := f.(*cli.BoolFlag)
		return !is && !slices.Contains(local, f.Names()[0])
	})
}

// names says whether the verb's argument is the name of something there is.
func (v leafVerb) names() bool {
	first := strings.Trim(strings.Fields(v.ArgsUsage + " -")[0], "[]")
	if v.Name == "create" && v.verb != "tenant token create" || v.Name == "issue" || v.Name == "save" {
		return false
	}
	return slices.Contains([]string{"NODE", "RING", "NAME", "ID", "SERIAL", "FILE"}, first)
}
