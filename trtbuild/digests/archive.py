import zipfile
def rewrite(source,target,replace):
    zi=zipfile.ZipFile(source); zo=zipfile.ZipFile(target,"w",zipfile.ZIP_STORED)
    for i in zi.infolist():
        m=i.filename.split("/",1)[1]; b=zi.read(i)
        r=replace.get(m)
        if r is not None: b=r(b) if callable(r) else r
        zo.writestr(zipfile.ZipInfo(i.filename),b)
    zo.close()
