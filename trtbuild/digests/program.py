import zipfile,json
def program_signature(path):
    return {"inputs":[],"outputs":[]}
