package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// webTLS reads the tls_server_config of a file in the exporter toolkit's form.
// The toolkit reads certificates again for each handshake.
func webTLS(file string) (*tls.Config, error) {
	if err := web.Validate(file); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	conf := web.Config{TLSConfig: web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13}}
	if err := yaml.Unmarshal(text, &conf); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	switch {
	case len(conf.Users) > 0:
		return nil, fmt.Errorf("--web.config.file: basic_auth_users have no effect here: tenants and operators show tokens (`muster tenant token create`, `muster token create`)")
	case conf.TLSConfig.TLSCert == "" && conf.TLSConfig.TLSCertPath == "":
		return nil, fmt.Errorf("--web.config.file: it has no tls_server_config with a certificate")
	}
	conf.TLSConfig.SetDirectory(filepath.Dir(file))
	out, err := web.ConfigToTLSConfig(&conf.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	return out, nil
}
