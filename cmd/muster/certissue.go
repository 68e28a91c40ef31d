package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster/pki"
)

func certIssue(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "issue",
		Usage:     "make a certificate for a reader or writer of the store door, such as a Thanos Querier; its key is made here and stays here",
		ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "role", Usage: "reader or writer"},
			&cli.StringFlag{Name: "tenant", Usage: "bind it to one tenant (default: it sees all)"},
			&cli.StringFlag{Name: "ttl", Usage: "how long it lasts, such as 90d", DefaultText: "1y"},
			&cli.StringFlag{Name: "out", Value: ".", Usage: "folder for NAME.crt, NAME.key and ca.crt"},
			dryRunFlag(),
		},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "a name for whom it is")
			if err != nil {
				return err
			}
			if c.String("role") == "" {
				return usageError(errors.New("muster cert issue wants --role reader or writer"))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			return issueCertificate(ctx, c, std, cl, name)
		},
	}
}

// issued is the answer of the admin API.
type issued struct {
	Serial      string            `json:"serial"`
	Role        string            `json:"role"`
	Name        string            `json:"name"`
	Tenant      string            `json:"tenant,omitempty"`
	Expires     string            `json:"expires"`
	Files       map[string]string `json:"files,omitempty"`
	Certificate string            `json:"certificate,omitempty"`
	CA          string            `json:"ca,omitempty"`
	applied
}

func issueCertificate(ctx context.Context, c *cli.Context, std stdio, cl *client, name string) error {
	files := filesOf(c.String("out"), name)
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	body, err := issueBody(c, key, name)
	if err != nil {
		return err
	}
	r := request{method: http.MethodPost, path: certificatesPath, body: body, dryRun: c.Bool("dry-run")}
	if r.dryRun {
		var a applied
		if err := cl.do(ctx, r, &a); err != nil {
			return err
		}
		return std.told(c, a, "issued a certificate for "+c.String("role")+" "+name)
	}
	// The key lies on the disk before there is a certificate for it.
	if err := saveKey(files["key"], key); err != nil {
		return err
	}
	var made issued
	if err := cl.do(ctx, r, &made); err != nil {
		return errors.Join(err, os.Remove(files["key"]))
	}
	err = errors.Join(os.WriteFile(files["certificate"], []byte(made.Certificate), 0o600), os.WriteFile(files["ca"], []byte(made.CA), 0o600))
	if err != nil {
		return fmt.Errorf("keep certificate %s (`muster cert revoke` ends it): %w", made.Serial, err)
	}
	return made.tell(c, std, files)
}

func issueBody(c *cli.Context, key *pki.Key, name string) (map[string]any, error) {
	csr, err := pki.NewRequest(key, name)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"csr": csr, "role": c.String("role"), "name": name}
	for _, flag := range []string{"tenant", "ttl"} {
		if v := c.String(flag); v != "" {
			body[flag] = v
		}
	}
	return body, nil
}

func filesOf(dir, name string) map[string]string {
	return map[string]string{
		"certificate": filepath.Join(dir, filepath.Base(name)+".crt"),
		"key":         filepath.Join(dir, filepath.Base(name)+".key"),
		"ca":          filepath.Join(dir, "ca.crt"),
	}
}

// saveKey replaces no key that is there.
func saveKey(path string, key *pki.Key) error {
	text, err := key.PEM()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &failure{Code: exitConflict, Text: path + " exists already", Next: "choose another name or another folder (--out)", cause: err}
	}
	if err != nil {
		return fmt.Errorf("keep the key: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("keep the key: %w", err), os.Remove(path))
	}
	return nil
}

func (i issued) tell(c *cli.Context, std stdio, files map[string]string) error {
	if wantsJSON(c) {
		i.Certificate, i.CA, i.Files = "", "", files
		text, err := json.Marshal(i)
		return orJSON(std, text, err)
	}
	whose := "all tenants"
	if i.Tenant != "" {
		whose = "tenant " + i.Tenant
	}
	std.printf("issued certificate %s for %s %s, %s, until %s\n", i.Serial, i.Role, i.Name, whose, i.Expires)
	std.printf("%s\n%s\n%s\n", files["certificate"], files["key"], files["ca"])
	std.notef("nobody renews it: issue another before it ends\n")
	if i.Role == pki.RoleReader {
		std.notef("thanos query --grpc-client-tls-secure --grpc-client-tls-cert=%s --grpc-client-tls-key=%s --grpc-client-tls-ca=%s\n",
			files["certificate"], files["key"], files["ca"])
	}
	return nil
}
