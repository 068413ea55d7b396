package devcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// store keeps definitions as files, one for each app, so that a change costs what the app costs. A nil store keeps nothing.
type store struct{ dir string }

type storedApp struct {
	Versions []json.RawMessage `json:"versions"`
	Pods     []json.RawMessage `json:"pods,omitempty"`
	Infos    []versionInfo     `json:"infos"`
	Stamps   []stamp           `json:"stamps"`
}

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	return &store{dir}, nil
}

func (s *store) file(id string) string { return filepath.Join(s.dir, url.PathEscape(id)+".json") }

func (s *store) save(a *runApp) error {
	if s == nil {
		return nil
	}
	var v storedApp
	for _, spec := range a.versions {
		if spec.pod != nil {
			v.Pods = append(v.Pods, encode(spec.pod.raw))
		} else {
			v.Versions = append(v.Versions, encode(spec))
		}
		v.Infos, v.Stamps = append(v.Infos, spec.VersionInfo), append(v.Stamps, spec.Version)
	}
	return s.write(s.file(a.spec.ID), encode(v))
}

// write replaces a file. It survives this process' end; that of the machine is the state's end too.
func (s *store) write(name string, b []byte) error {
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return fmt.Errorf("keeping state: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("keeping state: %w", err)
	}
	return nil
}

func (s *store) remove(id string) error {
	if s == nil {
		return nil
	}
	if err := os.Remove(s.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting state: %w", err)
	}
	return nil
}

// load reads what was kept. A file that cannot be read costs that app only, and its error is returned beside the others.
func (s *store) load() (map[string]*runApp, []error) {
	apps := map[string]*runApp{}
	var errs []error
	files, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, []error{err}
	}
	for _, name := range files {
		if filepath.Base(name) == groupsFile {
			continue
		}
		a, err := s.read(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the state of %s: %w", strings.TrimSuffix(filepath.Base(name), ".json"), err))
			continue
		}
		apps[a.spec.ID] = a
	}
	return apps, errs
}

func (s *store) read(name string) (*runApp, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var v storedApp
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	a := &runApp{}
	for _, raw := range v.Versions {
		spec := &app{}
		if err := json.Unmarshal(raw, spec); err != nil {
			return nil, err
		}
		a.versions = append(a.versions, spec)
	}
	for _, raw := range v.Pods {
		spec, err := parsePod(raw, "")
		if err != nil {
			return nil, err
		}
		a.versions = append(a.versions, spec)
	}
	if len(a.versions) == 0 || len(v.Infos) != len(a.versions) || len(v.Stamps) != len(a.versions) {
		return nil, errors.New("it holds no version")
	}
	for n, spec := range a.versions {
		spec.VersionInfo, spec.Version = v.Infos[n], v.Stamps[n]
		if spec.mode() == modeHost && spec.PortDefinitions == nil {
			spec.PortDefinitions = []portDefinition{}
		}
	}
	a.spec = a.versions[len(a.versions)-1]
	a.goal = a.spec.Instances
	return a, nil
}

const groupsFile = "groups.json"

func (s *store) saveGroups(groups map[string]*groupInfo) error {
	if s == nil {
		return nil
	}
	return s.write(filepath.Join(s.dir, groupsFile), encode(groups))
}

func (s *store) loadGroups() (map[string]*groupInfo, error) {
	groups := map[string]*groupInfo{}
	b, err := os.ReadFile(filepath.Join(s.dir, groupsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return groups, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &groups)
	}
	if err != nil {
		return groups, fmt.Errorf("reading the groups' state: %w", err)
	}
	return groups, nil
}
