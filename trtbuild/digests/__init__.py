import zipfile,json,hashlib,struct
from trtbuild.digest import digest_file, digest_value
def canonical_digest(path):
    if path.suffix==".pt2":
        z=zipfile.ZipFile(path); parts=[]
        for n in sorted(z.namelist()):
            m=n.split("/",1)[1]
            if m.startswith(("data/sample_inputs",".data")): continue
            b=z.read(n)
            if m.startswith("models/"):
                def strip(o):
                    if isinstance(o,dict): return {k:strip(v) for k,v in o.items() if k not in("metadata","hint")}
                    return [strip(x) for x in o] if isinstance(o,list) else o
                b=json.dumps(strip(json.loads(b)),sort_keys=True).encode()
            parts.append([m,hashlib.sha256(b).hexdigest()])
        return "program-0:"+digest_value(parts)
    return "raw:"+digest_file(path)
