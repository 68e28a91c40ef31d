package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func certCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "cert",
		Usage: "the cluster's certificates",
		Subcommands: []*cli.Command{
			certShow(std), certIssue(std), certRevoke(std), certRenew(std), certRotate(std),
		},
	}
}

// certificates is what the admin API shows of them.
type certificates struct {
	Node string `json:"node"`
	CAs  []struct {
		Fingerprint string   `json:"fingerprint"`
		Expires     string   `json:"expires"`
		Newest      bool     `json:"newest"`
		KeyOn       []string `json:"key_on"`
	} `json:"cas"`
	Rotation *struct {
		Since     string   `json:"since"`
		Finishing bool     `json:"finishing"`
		Awaited   []string `json:"awaited"`
	} `json:"rotation"`
	Members []struct {
		Node    string `json:"node"`
		Expires string `json:"expires"`
		RenewAt string `json:"renew_at"`
		CA      string `json:"ca"`
	} `json:"members"`
	Issued []struct {
		Serial  string `json:"serial"`
		Role    string `json:"role"`
		Name    string `json:"name"`
		Tenant  string `json:"tenant"`
		Expires string `json:"expires"`
		By      string `json:"created_by"`
		Dead    string `json:"dead"`
	} `json:"issued"`
}

const certificatesPath = "/api/v1/certificates"

func certShow(std stdio) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "the CA, the nodes' certificates, and those of readers and writers",
		Action: func(c *cli.Context) error {
			if wantsJSON(c) {
				return show(c, std, certificatesPath)
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			var all certificates
			if err := cl.do(c.Context, request{method: http.MethodGet, path: certificatesPath}, &all); err != nil {
				return err
			}
			all.print(std)
			return nil
		},
	}
}

func (a certificates) print(std stdio) {
	var rows [][]string
	for _, ca := range a.CAs {
		state := "being replaced"
		if ca.Newest {
			state = "signs"
		}
		rows = append(rows, []string{ca.Fingerprint[:min(12, len(ca.Fingerprint))], state, ca.Expires, list(ca.KeyOn, "no node that is heard")})
	}
	std.table([]string{"CA", "STATE", "EXPIRES", "KEY ON"}, rows)
	rows = nil
	for _, m := range a.Members {
		rows = append(rows, []string{m.Node, dash(m.CA), dash(m.Expires), dash(m.RenewAt)})
	}
	std.printf("\n")
	std.table([]string{"NODE", "CA", "EXPIRES", "RENEWS"}, rows)
	if len(a.Issued) > 0 {
		rows = nil
		for _, i := range a.Issued {
			tenant := i.Tenant
			if tenant == "" {
				tenant = "all"
			}
			if i.Dead != "" {
				tenant += " (" + i.Dead + ")"
			}
			rows = append(rows, []string{i.Serial, i.Role, i.Name, tenant, i.Expires, dash(i.By)})
		}
		std.printf("\n")
		std.table([]string{"SERIAL", "ROLE", "NAME", "TENANT", "EXPIRES", "BY"}, rows)
	}
	if text := a.rotating(); text != "" {
		std.printf("\n%s\n", text)
	}
}

// rotating says how far a CA rotation is; "" while there is none.
func (a certificates) rotating() string {
	r := a.Rotation
	switch {
	case r == nil:
		return ""
	case len(r.Awaited) > 0:
		return "The CA is being replaced since " + r.Since + ": certificates of the new one are awaited on " + strings.Join(r.Awaited, ", ") + "."
	case r.Finishing:
		return "The CA is being replaced since " + r.Since + ": the old one is about to be dropped."
	default:
		return "The CA is being replaced since " + r.Since + ": every node has a certificate of the new one. " + afterRotation
	}
}

const afterRotation = "Tokens and readers' certificates from before work until `muster cert rotate-ca --finish`."

func certRevoke(std stdio) *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "end the certificate of a reader or writer at once", ArgsUsage: "SERIAL", Flags: []cli.Flag{dryRunFlag()},
		Action: func(c *cli.Context) error {
			serial, err := oneArg(c, "the certificate's serial number")
			if err != nil {
				return err
			}
			return act(c, std, "revoked certificate "+serial, request{method: http.MethodDelete, path: certificatesPath + "/" + url.PathEscape(serial)})
		},
	}
}

func certRenew(std stdio) *cli.Command {
	return &cli.Command{
		Name: "renew", Usage: "get this node a new certificate now; it does so by itself, too", Flags: []cli.Flag{dryRunFlag()},
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			raw, _, err := cl.raw(ctx, request{method: http.MethodPost, path: certificatesPath + "/renew", dryRun: c.Bool("dry-run")})
			if err != nil || wantsJSON(c) {
				return orJSON(std, raw, err)
			}
			var own struct {
				Node    string `json:"node"`
				Expires string `json:"expires"`
				RenewAt string `json:"renew_at"`
				DryRun  bool   `json:"dry_run"`
			}
			if err := json.Unmarshal(raw, &own); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if own.DryRun {
				std.said("renewed the certificate of "+own.Node+", which ends at "+own.Expires, applied{DryRun: true})
				return nil
			}
			std.printf("renewed the certificate of %s: it ends at %s and is renewed by itself at %s\n", own.Node, own.Expires, own.RenewAt)
			return nil
		},
	}
}

func orJSON(std stdio, raw []byte, err error) error {
	if err != nil {
		return err
	}
	return std.json(json.RawMessage(raw))
}

func certRotate(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "rotate-ca",
		Usage: "replace the cluster's CA without a break; with --finish drop the old one",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "finish", Usage: "drop the old CA as soon as every node has a certificate of the new one"},
			&cli.DurationFlag{Name: "timeout", Value: commandTimeout, Usage: "how long to wait; the nodes go on by themselves"},
			dryRunFlag(),
		},
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
			defer cancel()
			finish := c.Bool("finish")
			var a applied
			err = cl.do(ctx, mutation(c, request{
				method: http.MethodPost, path: certificatesPath + "/rotate", body: map[string]bool{"finish": finish},
			}), &a)
			if err != nil {
				return err
			}
			if a.DryRun {
				return std.told(c, a, map[bool]string{false: "began to replace the CA", true: "drop the old CA once no node needs it"}[finish])
			}
			all, err := awaitRotation(ctx, cl, std, finish)
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(all)
			}
			if finish {
				std.printf("the old CA is dropped: make new operator tokens, and issue readers' certificates again\n")
				return nil
			}
			std.printf("every node has a certificate of the new CA. %s\n", afterRotation)
			return nil
		},
	}
}

// told prints a mutation's answer in the form that was asked for.
func (s stdio) told(c *cli.Context, a applied, what string) error {
	if wantsJSON(c) {
		return s.json(a)
	}
	s.said(what, a)
	return nil
}

// awaitRotation polls until every node has a certificate of the new CA or, with
// finish, until the old one is gone.
func awaitRotation(ctx context.Context, cl *client, std stdio, finish bool) (json.RawMessage, error) {
	said := ""
	for {
		var all certificates
		raw, _, err := cl.raw(ctx, request{method: http.MethodGet, path: certificatesPath})
		if err == nil {
			err = json.Unmarshal(raw, &all)
		}
		if err == nil && (all.Rotation == nil || !finish && len(all.Rotation.Awaited) == 0) {
			return raw, nil
		}
		if text := all.rotating(); err == nil && text != said {
			std.notef("%s\n", text)
			said = text
		}
		select {
		case <-ctx.Done():
			if said == "" {
				return nil, errors.Join(ctx.Err(), err)
			}
			return nil, &failure{
				Code: exitFailed, Text: said,
				Next: "bring that node back, or remove it for good with `muster cluster remove NODE --force`; the rotation goes on by itself",
			}
		case <-time.After(200 * time.Millisecond):
		}
	}
}
