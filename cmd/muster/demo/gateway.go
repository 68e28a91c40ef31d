package demo

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// gateway stands in front of a node and sets the tenant's header, as a team's
// nginx does. (A sender could set it itself, but not every packaged Prometheus
// sends the headers that its configuration names: Debian's 2.42 does not.)
type gateway struct {
	url    string
	server *http.Server
	done   chan struct{}
}

func newGateway(to *fleet.Node, tenant string) (*gateway, error) {
	target, err := url.Parse("http://" + to.Write)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(to.Host, "0"))
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("THANOS-TENANT", tenant)
		},
		ErrorLog: log.New(io.Discard, "", 0), // a killed node is part of the show; the sender's log tells
	}
	g := &gateway{
		url:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(g.done)
		if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return g, nil
}

func (g *gateway) stop() {
	_ = g.server.Close()
	<-g.done
}
