package marathon

import (
	"context"
	"errors"
	"fmt"
	"io"

	"signalbox"
)

// allPods reads the status of all pods. A Marathon older than pods has none.
func (s *Source) allPods(ctx context.Context, o Options) ([]reading, error) {
	var pods []*Pod
	var bad []BadApp
	err := s.client.get(ctx, "pods", "/v2/pods/::status", nil, func(r io.Reader) (err error) {
		pods, bad, err = DecodePods(r, s.cfg.MaxBody)
		return err
	})
	if errors.Is(err, errNotFound) || isUnknownRoute(err) {
		s.hasPods.Store(false)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.hasPods.Store(true)
	out := make([]reading, 0, len(pods)+len(bad))
	for _, p := range pods {
		out = append(out, s.podReading(ctx, p, o))
	}
	for _, b := range bad {
		out = append(out, reading{app: b.ID, pod: true, bad: true, problems: []signalbox.Problem{BadProblem(b)}})
	}
	return out, nil
}

// onePod reads the status of one pod. errNotFound says that there is none.
func (s *Source) onePod(ctx context.Context, id string) (reading, error) {
	var pod *Pod
	err := s.client.get(ctx, "pod", "/v2/pods/"+escapePath(id)+"::status", nil, func(r io.Reader) (err error) {
		pod, err = DecodePod(r, s.cfg.MaxBody)
		return err
	})
	if err != nil {
		return reading{}, err
	}
	if pod.ID != id {
		return reading{}, fmt.Errorf("reading the pod %s: the answer is about %s", id, pod.ID)
	}
	return s.podReading(ctx, pod, s.options(s.previous(), map[string]bool{}, map[version]bool{})), nil
}

func (s *Source) podReading(ctx context.Context, p *Pod, o Options) reading {
	missing := map[string]bool{}
	o.Resolve = s.resolve(missing)
	r := reading{app: p.ID, pod: true}
	r.services, r.problems = ConvertPod(p, o)
	if s.lookUp(ctx, missing) {
		r.services, r.problems = ConvertPod(p, o)
	}
	s.wordings.learn(p.wording())
	s.verdicts.learn(p.Verdicts())
	return r
}
