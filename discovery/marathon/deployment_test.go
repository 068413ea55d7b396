package marathon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"signalbox"
	"signalbox/discovery"
)

// once is a source that has read one state.
type once struct{ table *signalbox.Table }

func (once) Name() string { return "marathon" }

func (o once) Run(ctx context.Context, out chan<- discovery.Update, _ <-chan struct{}) error {
	select {
	case out <- discovery.Update{State: o.table.Services, Problems: o.table.Problems, Whole: true}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

// A golden of a deployment is what Marathon says at one moment of it, with the labels that marathon-lb's zdd sets, and the table
// that comes of it.
func TestDeploymentGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/deployment/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source := once{convertBody(t, ar.Files[0].Data, Options{})}
			ctx, cancel := context.WithCancel(t.Context())
			out, ended := make(chan *discovery.Change), make(chan error)
			go func() {
				ended <- discovery.NewWatcher(discovery.Config{Sources: []discovery.Source{source}}).Run(ctx, out)
			}()
			got := tableText((<-out).Table)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if *update {
				ar.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(ar.Files[1].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
