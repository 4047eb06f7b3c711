import sys, traceback, collections, tempfile, time, warnings
sys.path.insert(0,'tests/config')
from pathlib import Path
import pytest
import test_fuzz
from hypothesis import given, settings, Phase
from run_file_fuzz import run_files, as_yaml
found=collections.defaultdict(list); outcomes=collections.Counter()
def test_drive(monkeypatch, tmp_path):
    test_fuzz.programs.__wrapped__ if False else None
    for f in (test_fuzz.programs,):
        fn=getattr(f,'_get_wrapped_function',lambda: f.__wrapped__)()
        fn(monkeypatch)
    n=int(__import__('os').environ.get('N','300'))
    @settings(max_examples=n, deadline=None, suppress_health_check=test_fuzz.HEALTH, phases=[Phase.generate], derandomize=False, database=None)
    @given(data=run_files())
    def go(data):
        try: outcomes[test_fuzz.answer(data,tmp_path)]+=1
        except BaseException as e:
            if isinstance(e,KeyboardInterrupt): raise
            tb=traceback.extract_tb(e.__traceback__)[-1]
            own=[t for t in traceback.extract_tb(e.__traceback__) if 'ionloop' in t.filename]
            k=(type(e).__name__, f"{tb.filename[-40:]}:{tb.lineno}", f"{own[-1].filename[-40:]}:{own[-1].lineno}" if own else '')
            found[k].append((str(e)[:300], (tmp_path/'run.yaml').read_text()[:0]))
            Path('/tmp/fuzz').mkdir(exist_ok=True)
            if len(found[k])==1: (Path('/tmp/fuzz')/f"{len(found)}.yaml").write_text((tmp_path/'run.yaml').read_text())
    t=time.time(); go()
    print(outcomes, time.time()-t)
    for i,(k,v) in enumerate(found.items(),1): print(i,len(v),k,v[0][0])
